"""Which tensor of an artifact is which value of the program: by what they hold, in order.

Converters rename, fuse, transpose and reorder, so names tell nothing. Both sides run on the same
frames, and what is alike is paired, most alike first. A layer that an artifact computes wrongly is
like nothing, but still in its place: what is left over is aligned in order, as texts are, by
dynamic programming, where the shapes allow it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Elements that two tensors are compared on.
_SAMPLE = 4096
#: Likeness from which a pair needs no other evidence.
_ALIKE = 0.8
#: What a pair counts whose values have nothing in common; a perfect pair counts 1.
_SHAPE_ALONE = 0.05


@dataclass(frozen=True)
class Match:
    """Tensor `tap` is value `node`; `channels_last` when it has to be turned to N×C×H×W."""

    tap: int
    node: int
    channels_last: bool

    def aligned(self, value: np.ndarray) -> np.ndarray:
        """A tensor of the artifact in the layout of the program."""
        return value.transpose(0, 3, 1, 2) if self.channels_last else value


def matched(
    taps: Sequence[np.ndarray],
    nodes: Sequence[np.ndarray],
    *,
    channels_last: bool,
    hidden_by: Mapping[int, int] | None = None,
    moved: Collection[int] = (),
) -> list[Match]:
    """Pairs of a tensor and a value that was computed, in order of the values.

    Args:
        taps: tensors of the artifact, in order of execution.
        nodes: values of the program, in order of execution.
        channels_last: tensors of rank 4 may be N×H×W×C.
        hidden_by: values that no artifact holds when it holds another one, by their places.
        moved: places of values that are those of others, or of the input. Tensors that are like
            them are nothing else: a residual is nearly its input.
    """
    pairs = {
        (i, j): likeness
        for i, tap in enumerate(taps)
        for j, node in enumerate(nodes)
        if (likeness := _likeness(tap, node, channels_last)) is not None
    }
    sure = _most_alike(pairs)
    seen_taps, seen_nodes = set(sure), set(sure.values())
    seen_nodes |= {j for j, by in (hidden_by or {}).items() if by in seen_nodes}
    rest = _in_order(
        [i for i in range(len(taps)) if i not in seen_taps],
        [j for j in range(len(nodes)) if j not in seen_nodes and j not in moved],
        pairs,
    )
    found = {**sure, **rest}
    matches = [Match(i, j, pairs[i, j][1]) for i, j in found.items() if j not in moved]
    return sorted(matches, key=lambda match: match.node)


_Pairs = dict[tuple[int, int], tuple[float, bool]]


def _most_alike(pairs: _Pairs) -> dict[int, int]:
    """Tensor → value for the pairs beyond doubt; equal ones in order."""
    found: dict[int, int] = {}
    for (i, j), (likeness, _) in sorted(pairs.items(), key=lambda item: (-item[1][0], item[0])):
        if likeness >= _ALIKE and i not in found and j not in found.values():
            found[i] = j
    return found


def _in_order(taps: Sequence[int], nodes: Sequence[int], pairs: _Pairs) -> dict[int, int]:
    """The pairs of which none crosses another and whose likeness is greatest together."""
    best = np.zeros((len(taps) + 1, len(nodes) + 1))
    for a, i in enumerate(taps):
        for b, j in enumerate(nodes):
            paired = best[a, b] + pairs[i, j][0] if (i, j) in pairs else 0.0
            best[a + 1, b + 1] = max(best[a, b + 1], best[a + 1, b], paired)
    found, a, b = {}, len(taps), len(nodes)
    while a and b:
        if best[a, b] == best[a - 1, b]:
            a -= 1
        elif best[a, b] == best[a, b - 1]:
            b -= 1
        else:
            a, b = a - 1, b - 1
            found[taps[a]] = nodes[b]
    return found


def _likeness(tap: np.ndarray, node: np.ndarray, channels_last: bool) -> tuple[float, bool] | None:
    """How alike two tensors are, and whether that is of the first one turned."""
    views = [(tap, False)]
    if channels_last and tap.ndim == 4:
        views.insert(0, (tap.transpose(0, 3, 1, 2), True))
    alike = [
        (_SHAPE_ALONE + (1 - _SHAPE_ALONE) * _resemblance(view, node), turned)
        for view, turned in views
        if view.shape == node.shape
    ]
    return max(alike, default=None)


def _resemblance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared correlation over a sample, less a tenth of it where level or contrast differ.

    x and x / 10 correlate as a layer and its rounded copy do. Lin's concordance tells them apart,
    while a layer whose scale is wrong is still most like the right one.
    """
    step = max(1, a.size // _SAMPLE) | 1  # odd: even steps would see some channels only
    first, second = (np.ravel(x)[::step].astype(np.float64) for x in (a, b))
    apart = float(first.mean() - second.mean()) ** 2
    first, second = first - first.mean(), second - second.mean()
    product, powers = float(first @ second), (float(first @ first), float(second @ second))
    norm = float(np.sqrt(powers[0] * powers[1]))
    if not np.isfinite(norm) or norm == 0 or product <= 0:
        return 0.0
    concordance = 2 * product / (sum(powers) + first.size * apart)
    return (product / norm) ** 2 * (0.9 + 0.1 * concordance)
