"""A tensor of one value, made in the shape of another, is that value where arithmetic spreads it.

f(x, zeros_like(x)) = f(x, 0)        f: arithmetic element by element; ones, full, new_full alike
x + 0 = x,  x − 0 = x,  x · 1 = x,  x / 1 = x
zeros_like(x) = zeros(n, c, h, w)    where its shape is used: it does not depend on x
expand(zeros) = zeros, and so for every operator of pure layout
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, is_call, shape
from pockethdr.export.program import add_constant
from pockethdr.export.rewrite import Replacement

_ZEROS = (aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default)
_ONES = (aten.ones.default, aten.ones_like.default, aten.new_ones.default)
_FULL = (aten.full.default, aten.full_like.default, aten.new_full.default)
_LAYOUTS = (
    aten.clone.default,
    aten.expand.default,
    aten.permute.default,
    aten.repeat.default,
    aten.reshape.default,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.unsqueeze.default,
)
_SUMS = (aten.add.Tensor, aten.sub.Tensor)
_PRODUCTS = (aten.mul.Tensor, aten.div.Tensor)
_SPREADING = (
    *_SUMS,
    *_PRODUCTS,
    aten.maximum.default,
    aten.minimum.default,
    aten.pow.Tensor_Tensor,
    aten.where.self,
    aten.gt.Tensor,
    aten.ge.Tensor,
    aten.lt.Tensor,
    aten.le.Tensor,
)


class ShrinkFilled:
    """Make a filled tensor one value, and drop arithmetic with zeros and ones."""

    name = "filled"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        yield from (node for node in calls(program, *_SPREADING) if _same(node) or _spread(node))
        yield from (node for node in program.graph.nodes if _is_hidden(node))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        if _is_filled(node):
            return Replacement(_full(program, node), "the shape is known")
        same = _same(node)
        if same is not None:
            return Replacement(same, "arithmetic that changes nothing")
        filled = _spread(node)
        values = {each: _one_value(program, each) for each in filled}
        args = fx.map_arg(node.args, lambda each: values.get(each, each))
        assert callable(node.target)
        return Replacement(emit(program, node.target, *args, **node.kwargs), "one value, spread")


def _full(program: fx.GraphModule, node: fx.Node) -> fx.Node:
    dtype, value = node.meta["val"].dtype, _value(node)
    if dtype.is_floating_point:  # without a dtype, which would be that of the proofs
        return emit(program, aten.full.default, list(shape(node)), float(value))
    return emit(program, aten.full.default, list(shape(node)), value, dtype=dtype)


def _one_value(program: fx.GraphModule, filled: fx.Node) -> fx.Node:
    size = (1,) * len(shape(filled))
    value = torch.full(size, _value(filled), dtype=filled.meta["val"].dtype)
    return add_constant(program, filled.name, value)


def _spread(node: fx.Node) -> list[fx.Node]:
    """The filled operands of `node` that give it nothing but their value."""
    filled = [each for each in node.all_input_nodes if _is_filled(each)]
    others = [shape(each) for each in node.all_input_nodes if each not in filled]
    if not others or tuple(torch.broadcast_shapes(*others)) != shape(node):
        return []
    return [each for each in filled if each.meta["val"].numel() > 1]


def _same(node: fx.Node) -> fx.Node | None:
    """The operand that sum or product leave as it is, if there is one."""
    if not is_call(node, *_SUMS, *_PRODUCTS):
        return None
    a = arguments(node)
    neutral = 0 if node.target in _SUMS else 1
    pairs = [(a["self"], a["other"])]
    if node.target in (aten.add.Tensor, aten.mul.Tensor) and a.get("alpha", 1) == 1:
        pairs.append((a["other"], a["self"]))
    for kept, filled in pairs:
        is_neutral = isinstance(filled, fx.Node) and _value(filled) == neutral
        if is_neutral and isinstance(kept, fx.Node) and _looks_like(kept, node):
            return kept
    return None


def _looks_like(value: fx.Node, other: fx.Node) -> bool:
    return shape(value) == shape(other) and value.meta["val"].dtype == other.meta["val"].dtype


def _is_hidden(node: fx.Node) -> bool:
    """Whether `node` is filled, and neither says so itself nor is read for its layout alone."""
    if not node.all_input_nodes or not _is_filled(node):
        return False
    return not all(_is_filled(user) for user in node.users)


def _is_filled(node: fx.Node) -> bool:
    return _value(node) is not None


def _value(node: fx.Node) -> Any:
    """The one value that all places of `node` have, or None."""
    if is_call(node, *_ZEROS):
        return 0
    if is_call(node, *_ONES):
        return 1
    if is_call(node, *_FULL):
        value = arguments(node)["fill_value"]
        return value if isinstance(value, int | float) else None
    return _value(node.all_input_nodes[0]) if is_call(node, *_LAYOUTS) else None
