"""A chain of dilated convolutions is a chain of dense ones on the four phases of the image.

    phase_ab(x)[i, j] = x[2i + a, 2j + b]        a, b ∈ {0, 1}, x: N×C×H×W with H, W even
    phase_ab(conv(x, W, dilation 2d, padding 2p))  =  conv(phase_ab(x), W, dilation d, padding p)

Pointwise convolutions, elementwise operators and concatenations of channels act on each phase
alone, so the phases are taken once before the chain (as a batch: 4N×C×H/2×W/2, by strided slices)
and put together once behind it (by concatenations), all with rank 4. No value is computed that
the dilated chain does not compute.

Not among `default_rewrites`: see docs/decisions/004-layout-rewrites.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from pockethdr.export.aten import (
    ELEMENTWISE,
    Conv,
    arguments,
    aten,
    emit,
    emit_conv,
    emit_with,
    is_call,
    is_conv,
    shape,
)
from pockethdr.export.rewrite import Replacement

_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


class PolyphaseDilated:
    """Run chains of dilation-2 convolutions, two or more, on half-resolution phases."""

    name = "polyphase"

    def __init__(self) -> None:
        self._chain: set[fx.Node] = set()
        self._sizes: dict[fx.Node, int] = {}
        self._phases: dict[fx.Node, fx.Node] = {}

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        self._chain, self._phases = _behind_dilated(program), {}
        self._sizes = _dilated_counts(self._chain)
        for node in list(program.graph.nodes):
            if node in self._chain and any(user not in self._chain for user in node.users):
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        if self._sizes[node] < 2:
            return "only one dilated convolution in the chain: that does not pay for the phases"
        height, width = shape(node)[2:]
        if height % 2 or width % 2:
            return f"odd size {height}×{width}: its phases differ in size"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        chain = [member for member in self._chain if member in self._upstream(node)]
        for member in sorted(chain):
            if member not in self._phases:
                self._phases[member] = self._on_phases(member, program)
        whole = _joined(program, self._phases[node])
        self._phases[whole] = self._phases[node]
        return Replacement(whole, f"{sum(map(_is_dilated, chain))} convolutions on four phases")

    def _upstream(self, node: fx.Node) -> set[fx.Node]:
        """The members of the chain that `node` is computed from, with itself."""
        seen, queue = {node}, [node]
        while queue:
            fresh = [n for n in queue.pop().all_input_nodes if n in self._chain and n not in seen]
            seen.update(fresh)
            queue += fresh
        return seen

    def _on_phases(self, node: fx.Node, program: fx.GraphModule) -> fx.Node:
        """The same operator on the phases."""
        if is_conv(node):
            return _dense(program, Conv(node), self._phases_of(program, Conv(node).input))
        if is_call(node, aten.cat.default):
            parts = [self._phases_of(program, part) for part in arguments(node)["tensors"]]
            return emit(program, aten.cat.default, parts, 1)
        size = shape(node)
        operands = {each: self._operand(program, each, size) for each in node.all_input_nodes}
        return emit_with(program, node, operands)

    def _operand(self, program: fx.GraphModule, node: fx.Node, size: tuple[int, ...]) -> fx.Node:
        """Phases of an image; a value per channel is repeated for each of the phases."""
        if shape(node)[-2:] == size[-2:]:
            return self._phases_of(program, node)
        if len(shape(node)) < 4 or shape(node)[0] == 1:
            return node
        return emit(program, aten.cat.default, [node] * len(_PHASES), 0)

    def _phases_of(self, program: fx.GraphModule, node: fx.Node) -> fx.Node:
        if node not in self._phases:
            self._phases[node] = _split(program, node)
        return self._phases[node]


def _behind_dilated(program: fx.GraphModule) -> set[fx.Node]:
    """Dilated convolutions, and what follows them and treats every phase alike."""
    chain: set[fx.Node] = set()
    for node in program.graph.nodes:
        follows = any(source in chain for source in node.all_input_nodes)
        if _is_dilated(node) or (follows and _is_alike(node, program)):
            chain.add(node)
    return chain


def _dilated_counts(chain: set[fx.Node]) -> dict[fx.Node, int]:
    """For each member, the dilated convolutions that it is connected with inside the chain.

    Counted over the whole connection and not upstream alone: its parts share their phases, and
    rewriting some of them would compute the rest twice.
    """
    counts: dict[fx.Node, int] = {}
    for start in chain:
        if start in counts:
            continue
        part, queue = {start}, [start]
        while queue:
            node = queue.pop()
            near = (chain & {*node.all_input_nodes, *node.users}) - part
            part |= near
            queue += near
        counts |= dict.fromkeys(part, sum(map(_is_dilated, part)))
    return counts


def _is_dilated(node: fx.Node) -> bool:
    if not is_conv(node):
        return False
    conv = Conv(node)
    is_even = all(d % 2 == 0 for d in conv.dilation) and all(p % 2 == 0 for p in conv.padding)
    return is_even and conv.keeps_size() and conv.kernel != (1, 1)


def _is_alike(node: fx.Node, program: fx.GraphModule) -> bool:
    if is_conv(node):
        return Conv(node).keeps_size() and Conv(node).kernel == (1, 1)
    if is_call(node, aten.cat.default):
        return len(shape(node)) == 4 and arguments(node)["dim"] in (1, -3)
    if not is_call(node, *ELEMENTWISE) or len(shape(node)) != 4:
        return False
    return all(_fits(shape(source), shape(node)) for source in node.all_input_nodes)


def _fits(operand: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether an operand is an image of this size, or has one value per channel."""
    is_image = len(operand) == 4 and (operand[0], *operand[-2:]) == (size[0], *size[-2:])
    return is_image or all(side == 1 for side in operand[-2:])


def _dense(program: fx.GraphModule, conv: Conv, source: fx.Node) -> fx.Node:
    factor = 1 if conv.kernel == (1, 1) else 2
    return emit_conv(
        program,
        source,
        *(conv.weight, conv.bias),
        padding=(conv.padding[0] // factor, conv.padding[1] // factor),
        dilation=(max(conv.dilation[0] // factor, 1), max(conv.dilation[1] // factor, 1)),
        groups=conv.groups,
    )


def _split(program: fx.GraphModule, image: fx.Node) -> fx.Node:
    """N×C×H×W → 4N×C×H/2×W/2, phase after phase."""
    height, width = shape(image)[2:]
    rows = [emit(program, aten.slice.Tensor, image, 2, a, height, 2) for a in (0, 1)]
    parts = [emit(program, aten.slice.Tensor, rows[a], 3, b, width, 2) for a, b in _PHASES]
    return emit(program, aten.cat.default, parts, 0)


def _joined(program: fx.GraphModule, phases: fx.Node) -> fx.Node:
    """4N×C×h×w → N×C×2h×2w: columns interleaved by one concatenation, then rows."""
    batch, channels, height, width = shape(phases)
    images = batch // len(_PHASES)
    parts = [
        _viewed(
            program,
            emit(program, aten.slice.Tensor, phases, 0, i * images, (i + 1) * images),
            [images * channels, height, width, 1],
        )
        for i in range(len(_PHASES))
    ]
    rows = [
        _viewed(
            program,
            emit(program, aten.cat.default, parts[2 * a : 2 * a + 2], 3),
            [images * channels, height, 1, 2 * width],
        )
        for a in (0, 1)
    ]
    whole = emit(program, aten.cat.default, rows, 2)
    return _viewed(program, whole, [images, channels, 2 * height, 2 * width])


def _viewed(program: fx.GraphModule, node: fx.Node, size: list[int]) -> fx.Node:
    return emit(program, aten.reshape.default, node, size)
