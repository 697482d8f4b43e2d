"""Operators that change nothing are removed, and chains of pure layout become one.

view(view(x, s₁), s₂)          =  view(x, s₂)
permute(permute(x, p), q)      =  permute(x, p[q])
clone(x), detach(x), alias(x), dropout(x) in evaluation            =  x
view, expand, slice, pad or nearest resize to the shape that x has, permute in order  =  x
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from pockethdr.export.aten import arguments, aten, emit, is_call, shape
from pockethdr.export.program import op_name
from pockethdr.export.rewrite import Replacement

_VIEWS = (aten.reshape.default,)
_TURNS = (aten.permute.default, aten.transpose.int)
_COPIES = (
    aten.clone.default,
    aten.detach.default,
    aten.detach_.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.lift_fresh_copy.default,
)
_RESIZES = (aten.upsample_nearest2d.vec, aten.upsample_nearest2d.default)
_SAME_SHAPE = (aten.expand.default, aten.slice.Tensor, aten.pad.default, *_RESIZES, *_VIEWS)


class RemoveIdentities:
    """Remove operators that hand their input on, and join views and permutes."""

    name = "identities"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for node in program.graph.nodes:
            is_end = not all(_is_joined_by(user, node) for user in node.users)
            if is_end and (_is_identity(node) or _is_joinable(node)):
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        origin = _origin(node)
        if _is_identity(node):
            return Replacement(origin, f"{op_name(node)} changes nothing here")
        if is_call(node, *_VIEWS):
            return Replacement(_viewed(program, node, origin), "consecutive views joined")
        return Replacement(_turned(program, node, origin), "consecutive permutes joined")


def _origin(node: fx.Node) -> fx.Node:
    """The input of `node` before the operators that change nothing."""
    origin = node.args[0]
    while isinstance(origin, fx.Node) and _is_identity(origin):
        origin = origin.args[0]
    assert isinstance(origin, fx.Node)
    return origin


def _is_joined_by(user: fx.Node, node: fx.Node) -> bool:
    """Whether rewriting `user`, or an end behind it, makes `node` superfluous."""
    return _is_identity(user) or _joins(user, node)


def _is_joinable(node: fx.Node) -> bool:
    return is_call(node, *_VIEWS, *_TURNS) and _joins(node, _origin(node))


def _joins(node: fx.Node, source: fx.Node) -> bool:
    return any(is_call(node, *kind) and is_call(source, *kind) for kind in (_VIEWS, _TURNS))


def _viewed(program: fx.GraphModule, node: fx.Node, origin: fx.Node) -> fx.Node:
    while is_call(origin, *_VIEWS):
        origin = _origin(origin)
    size = shape(node)
    same = size == shape(origin)
    return origin if same else emit(program, aten.reshape.default, origin, list(size))


def _turned(program: fx.GraphModule, node: fx.Node, origin: fx.Node) -> fx.Node:
    order = _order(node)
    while is_call(origin, *_TURNS):
        inner = _order(origin)
        order, origin = [inner[axis] for axis in order], _origin(origin)
    same = order == sorted(order)
    return origin if same else emit(program, aten.permute.default, origin, order)


def _is_identity(node: fx.Node) -> bool:
    if is_call(node, *_COPIES):
        return True
    if is_call(node, aten.dropout.default):
        return not arguments(node)["train"] or arguments(node)["p"] == 0
    if is_call(node, *_TURNS):
        return _order(node) == sorted(_order(node))
    if not is_call(node, *_SAME_SHAPE):
        return False
    shifts = is_call(node, aten.pad.default) and any(arguments(node)["pad"])
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return shape(node) == shape(source) and not shifts


def _order(node: fx.Node) -> list[int]:
    """Which axis of the input becomes each axis of the output."""
    rank = len(shape(node))
    if is_call(node, aten.permute.default):
        return [axis % rank for axis in arguments(node)["dims"]]
    order = list(range(rank))
    first, second = arguments(node)["dim0"], arguments(node)["dim1"]
    order[first], order[second] = order[second], order[first]
    return order
