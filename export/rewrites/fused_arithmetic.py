"""Operators that are short for arithmetic, written out: not every converter knows them.

lerp(a, b, w) = a + w (b - a)
addcmul(a, b, c, v) = a + v b c            addcdiv(a, b, c, v) = a + v b / c
logit(x) = log x - log(1 - x)                                     of x within its bounds
p & q, p | q, p ^ q = logical and, or, xor                               of truth values
cos(x, y) = Σ x y / (max(‖x‖, ε) max(‖y‖, ε))                            along an axis
copy(x, y) = y, spread to the shape of x
median(x₀, x₁, x₂) = max(min(x₀, x₁), min(max(x₀, x₁), x₂))              along an axis of three
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, is_call, shape
from pockethdr.export.rewrite import Replacement

_LERP = (aten.lerp.Tensor, aten.lerp.Scalar)
_SCALED: dict[Any, Any] = {
    aten.addcmul.default: aten.mul.Tensor,
    aten.addcdiv.default: aten.div.Tensor,
}
_LOGICAL: dict[Any, Any] = {
    aten.__and__.Tensor: aten.logical_and.default,
    aten.__or__.Tensor: aten.logical_or.default,
    aten.__xor__.Tensor: aten.logical_xor.default,
    aten.bitwise_and.Tensor: aten.logical_and.default,
    aten.bitwise_or.Tensor: aten.logical_or.default,
    aten.bitwise_xor.Tensor: aten.logical_xor.default,
}


class WriteOutArithmetic:
    """Write out what is short for several operators."""

    name = "fused_arithmetic"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        others = aten.copy.default, aten.logit.default, aten.cosine_similarity.default
        yield from calls(program, *_LERP, *_SCALED, *_LOGICAL, *others)
        yield from (node for node in program.graph.nodes if _is_median(node))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        if node.target in _LOGICAL and node.meta["val"].dtype is not torch.bool:
            return "it is of integers, not of truth values"
        if is_call(node, aten.copy.default):
            written = arguments(node)["src"].meta["val"].dtype
            return None if written == node.meta["val"].dtype else "it converts what it writes"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        if node.target is operator.getitem:
            return Replacement(_median(program, node.all_input_nodes[0]), "median of three")
        a = arguments(node)
        if is_call(node, aten.copy.default):
            same = shape(a["src"]) == shape(node)
            spread = None if same else emit(program, aten.expand.default, a["src"], shape(node))
            return Replacement(spread or a["src"])
        if is_call(node, aten.logit.default):
            return Replacement(_logit(program, a["self"], a["eps"]))
        if is_call(node, aten.cosine_similarity.default):
            return Replacement(_cosine(program, a["x1"], a["x2"], a["dim"], a["eps"]))
        if is_call(node, *_LERP):
            apart = emit(program, aten.sub.Tensor, a["end"], a["self"])
            more = emit(program, aten.mul.Tensor, apart, a["weight"])
            return Replacement(emit(program, aten.add.Tensor, a["self"], more))
        if node.target in _SCALED:
            more = emit(program, _SCALED[node.target], a["tensor1"], a["tensor2"])
            if a["value"] != 1:
                more = emit(program, aten.mul.Tensor, more, float(a["value"]))
            return Replacement(emit(program, aten.add.Tensor, a["self"], more))
        return Replacement(emit(program, _LOGICAL[node.target], a["self"], a["other"]))


def _logit(program: fx.GraphModule, x: fx.Node, bound: float | None) -> fx.Node:
    if bound is not None:
        x = emit(program, aten.clamp.default, x, bound, 1 - bound)
    rest = emit(program, aten.add.Tensor, emit(program, aten.neg.default, x), 1.0)
    return emit(
        program,
        aten.sub.Tensor,
        emit(program, aten.log.default, x),
        emit(program, aten.log.default, rest),
    )


def _cosine(program: fx.GraphModule, x: fx.Node, y: fx.Node, dim: int, least: float) -> fx.Node:
    dots = (
        emit(program, aten.sum.dim_IntList, emit(program, aten.mul.Tensor, *pair), [dim])
        for pair in ((x, y), (x, x), (y, y))
    )
    product, *squares = dots
    lengths = (
        emit(program, aten.clamp_min.default, emit(program, aten.sqrt.default, square), least)
        for square in squares
    )
    return emit(program, aten.div.Tensor, product, emit(program, aten.mul.Tensor, *lengths))


def _is_median(node: fx.Node) -> bool:
    """Whether `node` is the values, not the indices, of a median of three."""
    if node.target is not operator.getitem or node.args[1] != 0:
        return False
    source: Any = node.args[0]
    if not is_call(source, aten.median.dim):
        return False
    a = arguments(source)
    return bool(shape(a["self"])) and shape(a["self"])[a["dim"]] == 3


def _median(program: fx.GraphModule, node: fx.Node) -> fx.Node:
    a = arguments(node)
    dim = a["dim"]
    first, second, third = (
        emit(program, aten.slice.Tensor, a["self"], dim, at, at + 1)
        if a["keepdim"]
        else emit(program, aten.select.int, a["self"], dim, at)
        for at in range(3)
    )
    low, high = (
        emit(program, extreme, first, second)
        for extreme in (aten.minimum.default, aten.maximum.default)
    )
    return emit(
        program, aten.maximum.default, low, emit(program, aten.minimum.default, high, third)
    )
