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
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, is_call, shape
from pockethdr.export.rewrite import Replacement

#: Writes a call out at the current insertion point.
Written = Callable[[fx.GraphModule, fx.Node], fx.Node]

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
        yield from calls(program, *_FORMS)
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
        return Replacement(_FORMS[node.target](program, node))


def _lerp(program: fx.GraphModule, node: fx.Node) -> fx.Node:
    a = arguments(node)
    apart = emit(program, aten.sub.Tensor, a["end"], a["self"])
    more = emit(program, aten.mul.Tensor, apart, a["weight"])
    return emit(program, aten.add.Tensor, a["self"], more)


def _plus(combined: Any) -> Written:
    """a + v · combined(b, c)."""

    def written(program: fx.GraphModule, node: fx.Node) -> fx.Node:
        a = arguments(node)
        more = emit(program, combined, a["tensor1"], a["tensor2"])
        if a["value"] != 1:
            more = emit(program, aten.mul.Tensor, more, float(a["value"]))
        return emit(program, aten.add.Tensor, a["self"], more)

    return written


def _logical(program: fx.GraphModule, node: fx.Node) -> fx.Node:
    a = arguments(node)
    return emit(program, _LOGICAL[node.target], a["self"], a["other"])


def _copy(program: fx.GraphModule, node: fx.Node) -> fx.Node:
    source = arguments(node)["src"]
    if shape(source) == shape(node):
        return source
    return emit(program, aten.expand.default, source, shape(node))


def _logit(program: fx.GraphModule, node: fx.Node) -> fx.Node:
    x, bound = arguments(node)["self"], arguments(node)["eps"]
    if bound is not None:
        x = emit(program, aten.clamp.default, x, bound, 1 - bound)
    rest = emit(program, aten.add.Tensor, emit(program, aten.neg.default, x), 1.0)
    logs = (emit(program, aten.log.default, value) for value in (x, rest))
    return emit(program, aten.sub.Tensor, *logs)


def _cosine(program: fx.GraphModule, node: fx.Node) -> fx.Node:
    a = arguments(node)
    x, y = a["x1"], a["x2"]
    product, *squares = (
        emit(program, aten.sum.dim_IntList, emit(program, aten.mul.Tensor, *pair), [a["dim"]])
        for pair in ((x, y), (x, x), (y, y))
    )
    lengths = (
        emit(program, aten.clamp_min.default, emit(program, aten.sqrt.default, square), a["eps"])
        for square in squares
    )
    return emit(program, aten.div.Tensor, product, emit(program, aten.mul.Tensor, *lengths))


_FORMS: dict[Any, Written] = {
    aten.lerp.Tensor: _lerp,
    aten.lerp.Scalar: _lerp,
    aten.addcmul.default: _plus(aten.mul.Tensor),
    aten.addcdiv.default: _plus(aten.div.Tensor),
    aten.logit.default: _logit,
    aten.cosine_similarity.default: _cosine,
    aten.copy.default: _copy,
    **dict.fromkeys(_LOGICAL, _logical),
}


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
