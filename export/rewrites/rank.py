"""Operations on tensors of rank 5 and more, computed at rank 4 or less.

    f(a, b) = view(f(view(a), view(b)))     element-wise: axes that all operands share, merged
    Σ a, softmax a                          axes that are summed over or not, merged
    cat(a, b), stack(a, b)                  all axes before, and all behind the one that grows

Axes of one element are dropped. Kernels are often scaled at rank 5 (N×1×C×1×1), and those of
several experts mixed at rank 6; phone runtimes stop at rank 4, and Core ML at 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from torch import fx

from pockethdr.export.aten import ELEMENTWISE, arguments, aten, emit, emit_with, is_floating, shape
from pockethdr.export.rewrite import Replacement

MAX_RANK = 4
_SUMS = frozenset({aten.sum.dim_IntList, aten.mean.dim})
_SOFTMAX = frozenset({aten.softmax.int, aten._softmax.default})
_JOINS = frozenset({aten.cat.default, aten.stack.default})


class ReduceRank:
    """The rewrite of operations above rank 4."""

    name = "rank"

    def pattern(self, program: fx.GraphModule) -> Iterator[fx.Node]:
        known = ELEMENTWISE | _SUMS | _SOFTMAX | _JOINS
        for node in program.graph.nodes:
            if node.target in known and _rank(node) > MAX_RANK:
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        if node.target in ELEMENTWISE:
            groups = _groups([shape(source) for source in (*node.all_input_nodes, node)])
            if len(groups) > MAX_RANK:
                return f"its operands vary over {len(groups)} axes independently"
        if node.target in _SUMS | _SOFTMAX and not is_floating(node.all_input_nodes[0]):
            return "it counts integers or truth values"
        if node.target in _SUMS | _SOFTMAX and len(_runs(node)) > MAX_RANK:
            return f"its axes fall into {len(_runs(node))} runs"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        if node.target in ELEMENTWISE:
            new = _elementwise(node, program)
        elif node.target in _JOINS:
            new = _join(node, program)
        else:
            new = _along(node, program)
        rank = f"rank {_rank(node)} to {len(shape(new))}"
        return Replacement(emit(program, aten.reshape.default, new, list(shape(node))), rank)


def _rank(node: fx.Node) -> int:
    return max(len(shape(n)) for n in (node, *node.all_input_nodes))


def _elementwise(node: fx.Node, program: fx.GraphModule) -> fx.Node:
    groups = _groups([shape(source) for source in (*node.all_input_nodes, node)])
    flat = {
        source: emit(program, aten.reshape.default, source, _merged(shape(source), groups))
        for source in node.all_input_nodes
    }
    return emit_with(program, node, flat)


def _runs(node: fx.Node) -> list[tuple[bool, int]]:
    """Of the operand's axes in order: whether the operation goes along them, and their size."""
    sizes, a = shape(node.all_input_nodes[0]), arguments(node)
    dims = a["dim"] if isinstance(a["dim"], (list, tuple)) else [a["dim"]]
    along = {d % len(sizes) for d in dims or range(len(sizes))}
    axes = [(axis in along, size) for axis, size in enumerate(sizes) if size > 1]
    runs = groupby(axes, key=lambda axis: axis[0])
    return [(is_along, math.prod(size for _, size in run)) for is_along, run in runs]


def _along(node: fx.Node, program: fx.GraphModule) -> fx.Node:
    """A sum, mean or softmax over runs of axes; a softmax goes along one axis alone."""
    runs, a = _runs(node), arguments(node)
    flat = emit(program, aten.reshape.default, a["self"], [size for _, size in runs] or [1])
    dims = [axis for axis, (is_along, _) in enumerate(runs) if is_along]
    if node.target in _SUMS:
        return emit(program, node.target, flat, dims) if dims else flat
    rest = (a["half_to_float"],) if "half_to_float" in a else ()
    if not dims:  # of one element
        return emit(program, aten.full_like.default, flat, 1.0)
    return emit(program, node.target, flat, dims[0], *rest)


def _join(node: fx.Node, program: fx.GraphModule) -> fx.Node:
    parts, dim = arguments(node)["tensors"], arguments(node)["dim"] % len(shape(node))
    before = math.prod(shape(node)[:dim])
    flat = [emit(program, aten.reshape.default, part, [before, -1]) for part in parts]
    return emit(program, aten.cat.default, flat, 1)


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
