"""A constant added to a convolution, or to a sum with one in it, becomes its bias.

    (W * x + b) + c          =  W * x + (b + c)                                       b, c: C
    (W * x + b + y) + c      =  W * x + (b + c) + y

A dynamic convolution has its bias there when its kernel is assembled: added behind it, and so,
once it is static, behind the sum. An addition more reads and writes the whole image.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, fx

from pockethdr.export.aten import (
    Conv,
    arguments,
    aten,
    calls,
    emit,
    emit_conv,
    is_call,
    is_conv,
    only_user,
    shape,
)
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement


class AddIntoBias:
    """Let the bias of a convolution take in what is added for each channel."""

    name = "bias_of_sum"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for node in calls(program, aten.add.Tensor):
            added = _added(node, program)
            if added is not None and _summands_to_conv(added[0], shape(node)) is not None:
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        conv = _convolution(node, program)
        if constant_of(conv.weight, program) is None:
            return "the weight of the convolution is computed"
        if conv.bias is not None and constant_of(conv.bias, program) is None:
            return "the bias of the convolution is computed"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        added = _added(node, program)
        assert added is not None
        conv = _convolution(node, program)
        own = None if conv.bias is None else constant_of(conv.bias, program)
        offset = added[1].reshape(-1)
        new = emit_conv(
            program,
            conv.input,
            conv.weight,
            offset if own is None else own + offset,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            transposed=conv.transposed,
            output_padding=conv.output_padding,
            hint=node.name,
        )
        old = conv.node
        while old is not added[0]:
            total = only_user(old)
            assert total is not None
            operands = [new if x is old else x for x in total.args]
            new, old = emit(program, aten.add.Tensor, *operands), total
        return Replacement(new, f"in the bias of {conv.node}")


def _added(node: fx.Node, program: fx.GraphModule) -> tuple[fx.Node, Tensor] | None:
    """The image and the constant for each of its channels that `node` adds up."""
    if len(shape(node)) != 4 or not _is_plain_sum(node):
        return None
    channels = shape(node)[1]
    for image, other in (node.args, reversed(node.args)):
        value = constant_of(other, program)
        if value is not None and value.shape in ((channels, 1, 1), (1, channels, 1, 1)):
            return (image, value) if isinstance(image, fx.Node) else None
    return None


def _convolution(node: fx.Node, program: fx.GraphModule) -> Conv:
    added = _added(node, program)
    assert added is not None
    conv = _summands_to_conv(added[0], shape(node))
    assert conv is not None
    return Conv(conv)


def _summands_to_conv(node: fx.Node, wanted: tuple[int, ...]) -> fx.Node | None:
    """A convolution of the wanted shape in the sum that is `node`, if nothing else reads of it."""
    if len(node.users) != 1 or shape(node) != wanted:
        return None
    if is_conv(node):
        return node
    if not _is_plain_sum(node):
        return None
    found = (_summands_to_conv(term, wanted) for term in node.all_input_nodes)
    return next((conv for conv in found if conv is not None), None)


def _is_plain_sum(node: fx.Node) -> bool:
    """Whether `node` adds two different tensors, neither times a number."""
    if not is_call(node, aten.add.Tensor) or len(node.all_input_nodes) != 2:
        return False
    return arguments(node)["alpha"] == 1
