"""A constant added to a convolution, or to a sum with one in it, becomes its bias.

    (W * x + b) + c          =  W * x + (b + c)                                       b, c: C
    (W * x + b + y) + c      =  W * x + (b + c) + y

A dynamic convolution has its bias there when its kernel is assembled: added behind it, and so,
once it is static, behind the sum. An addition more reads and writes the whole image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, fx

from pockethdr.export.aten import (
    Conv,
    arguments,
    aten,
    calls,
    emit,
    emit_conv_like,
    is_call,
    is_conv,
    only_user,
    shape,
)
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement


@dataclass(frozen=True)
class _Place:
    """What is added up: an image that is a convolution or has one in its sum, and a constant."""

    image: fx.Node
    conv: Conv
    offset: Tensor


class AddIntoBias:
    """Let the bias of a convolution take in what is added for each channel."""

    name = "bias_of_sum"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return (node for node in calls(program, aten.add.Tensor) if _place(node, program))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        place = _place(node, program)
        assert place is not None
        if constant_of(place.conv.weight, program) is None:
            return "the weight of the convolution is computed"
        if place.conv.bias is not None and constant_of(place.conv.bias, program) is None:
            return "the bias of the convolution is computed"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        place = _place(node, program)
        assert place is not None
        conv, bias = place.conv, place.offset.reshape(-1)
        own = None if conv.bias is None else constant_of(conv.bias, program)
        bias = bias if own is None else own + bias
        new = emit_conv_like(program, conv, conv.input, conv.weight, bias, hint=node.name)
        old = conv.node
        while old is not place.image:
            total = only_user(old)
            assert total is not None
            operands = [new if x is old else x for x in total.args]
            new, old = emit(program, aten.add.Tensor, *operands), total
        return Replacement(new, f"in the bias of {conv.node}")


def _place(node: fx.Node, program: fx.GraphModule) -> _Place | None:
    if len(shape(node)) != 4 or not _is_plain_sum(node):
        return None
    channels = shape(node)[1]
    for image, other in (node.args, reversed(node.args)):
        value = constant_of(other, program)
        if not isinstance(image, fx.Node) or value is None:
            continue
        if value.shape in ((channels, 1, 1), (1, channels, 1, 1)):
            conv = _convolution_in(image, shape(node))
            return None if conv is None else _Place(image, Conv(conv), value)
    return None


def _convolution_in(node: fx.Node, wanted: tuple[int, ...]) -> fx.Node | None:
    """A convolution of the wanted shape in the sum that is `node`, if nothing else reads of it."""
    if len(node.users) != 1 or shape(node) != wanted:
        return None
    if is_conv(node):
        return node
    if not _is_plain_sum(node):
        return None
    found = (_convolution_in(term, wanted) for term in node.all_input_nodes)
    return next((conv for conv in found if conv is not None), None)


def _is_plain_sum(node: fx.Node) -> bool:
    """Whether `node` adds two different tensors, neither times a number."""
    if not is_call(node, aten.add.Tensor) or len(node.all_input_nodes) != 2:
        return False
    return arguments(node)["alpha"] == 1
