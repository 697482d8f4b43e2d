"""Element-wise operations on tensors of rank 5 and more, computed at rank 4 or less.

    f(a, b) = view(f(view(a), view(b)))     with axes merged or dropped that all operands share

Kernels are often scaled at rank 5 (N×1×C×1×1); phone runtimes stop at rank 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import fx

from pockethdr.export.aten import ELEMENTWISE, aten, emit, shape
from pockethdr.export.rewrite import Replacement

MAX_RANK = 4


class ReduceRank:
    """The rewrite of every element-wise operation above rank 4."""

    name = "rank"

    def pattern(self, program: fx.GraphModule) -> Iterator[fx.Node]:
        for node in program.graph.nodes:
            if node.target in ELEMENTWISE and len(shape(node)) > MAX_RANK:
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        groups = _groups([shape(source) for source in (*node.all_input_nodes, node)])
        if len(groups) > MAX_RANK:
            return f"its operands vary over {len(groups)} axes independently"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        groups = _groups([shape(source) for source in (*node.all_input_nodes, node)])
        flat = {
            source: emit(program, aten.reshape.default, source, _merged(shape(source), groups))
            for source in node.all_input_nodes
        }
        args = fx.map_arg(node.args, lambda source: flat[source])
        kwargs = fx.map_arg(node.kwargs, lambda source: flat[source])
        new = emit(program, node.target, *args, **kwargs)
        rank = f"rank {len(shape(node))} to {len(groups)}"
        return Replacement(emit(program, aten.reshape.default, new, list(shape(node))), rank)


def _groups(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Runs of axes, counted from the right, that can be merged in every operand."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    groups = list[list[int]]()
    before: tuple[bool, ...] | None = None
    for axis in range(rank):
        varies = tuple(s[axis] > 1 for s in padded)
        if not any(varies):
            continue
        if varies == before:
            groups[-1].append(axis - rank)
        else:
            groups.append([axis - rank])
        before = varies
    return groups


def _merged(sizes: tuple[int, ...], groups: Sequence[Sequence[int]]) -> list[int]:
    rank = len(sizes)
    return [math.prod(sizes[axis] for axis in group if -axis <= rank) for group in groups] or [1]
