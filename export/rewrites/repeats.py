"""Values that are repeated: left to the broadcast behind, or written as every converter takes it.

    f(expand(a), b)                 =  f(a, b)                   where b is as large as the result
    expand, repeat of N×1×H×W       =  1 * x                     a pointwise convolution of ones
    expand, repeat of N×C×1×1       =  nearest resize of x
    repeat of longer axes           =  cat(x, x, …)              axis by axis

LiteRT's converter lays feature maps out channels last, and leaves the sizes that `expand` and
`repeat` are given as they were.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from pockethdr.export.aten import (
    ELEMENTWISE,
    aten,
    calls,
    emit,
    emit_conv,
    emit_with,
    is_call,
    is_floating,
    shape,
)
from pockethdr.export.rewrite import Replacement

_REPEATS = (aten.expand.default, aten.repeat.default, aten.tile.default)


class WriteOutRepeats:
    """Leave repetition to broadcasts, and write the rest of it out."""

    name = "repeats"

    def pattern(self, program: fx.GraphModule) -> Iterator[fx.Node]:
        """Broadcasts first: where no other reads it, the repetition in front of them is gone."""
        yield from (node for node in program.graph.nodes if _needless(node))
        yield from calls(program, *_REPEATS)

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        if not is_floating(node):
            return "it repeats integers or truth values"
        if is_call(node, *_REPEATS) and not len(shape(node)) == len(shape(_source(node))) == 4:
            return "no repetition of feature maps"
        if is_call(node, *_REPEATS) and shape(node)[0] != shape(_source(node))[0]:
            return "it repeats images"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        if not is_call(node, *_REPEATS):
            small = {operand: _source(operand) for operand in _needless(node)}
            return Replacement(emit_with(program, node, small), "broadcast instead")
        new = _source(node)
        for axis, size in enumerate(shape(node)):
            if shape(new)[axis] not in (1, size):
                copies = [new] * (size // shape(new)[axis])
                new = emit(program, aten.cat.default, copies, axis)
        if shape(new)[1] != shape(node)[1]:
            ones = torch.ones(shape(node)[1], 1, 1, 1, dtype=torch.float64)
            new = emit_conv(program, new, ones, hint=f"{node.name}_ones")
        if shape(new) != shape(node):
            new = emit(program, aten.upsample_nearest2d.vec, new, list(shape(node)[2:]), None)
        sizes = ("×".join(map(str, shape(n))) for n in (_source(node), node))
        return Replacement(new, " to ".join(sizes))


def _source(node: fx.Node) -> fx.Node:
    return node.all_input_nodes[0]


def _needless(node: fx.Node) -> list[fx.Node]:
    """The operands of a broadcast that are expanded to what they would be broadcast to."""
    if not is_call(node, *ELEMENTWISE):
        return []
    sizes, found = {operand: shape(operand) for operand in node.all_input_nodes}, list[fx.Node]()
    for operand in node.all_input_nodes:
        if is_call(operand, *_REPEATS):
            without = {**sizes, operand: shape(_source(operand))}
            if _broadcast(*without.values()) == shape(node):
                sizes = without
                found.append(operand)
    return found


def _broadcast(*sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(*sizes))
    except RuntimeError:  # of a repetition that is none of single values
        return None
