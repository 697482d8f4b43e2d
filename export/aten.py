"""One view of a convolution and one way to add nodes, whichever spelling the trace chose.

`run_decompositions({})` keeps `aten.conv2d`, `aten.conv2d.padding` and `aten.conv_transpose2d`;
other traces hold `aten.convolution`. Rewrites and the quantizer read all of them as `Conv`.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from pockethdr.export.program import add_constant, op_name

aten = torch.ops.aten

Pair = tuple[int, int]

_CONVS = (aten.conv2d.default, aten.conv2d.padding, aten.convolution.default)
_TRANSPOSED = (aten.conv_transpose2d.input,)

#: Operators that act on each value alone, after broadcasting.
ELEMENTWISE = frozenset(
    {
        aten.relu.default,
        aten.leaky_relu.default,
        aten.sigmoid.default,
        aten.tanh.default,
        aten.silu.default,
        aten.gelu.default,
        aten.elu.default,
        aten.hardtanh.default,
        aten.relu6.default,
        aten.hardswish.default,
        aten.hardsigmoid.default,
        aten.softplus.default,
        aten.clamp.default,
        aten.clamp_min.default,
        aten.clamp_max.default,
        aten.neg.default,
        aten.abs.default,
        aten.exp.default,
        aten.sqrt.default,
        aten.pow.Tensor_Scalar,
        aten.add.Tensor,
        aten.sub.Tensor,
        aten.mul.Tensor,
        aten.div.Tensor,
        aten.maximum.default,
        aten.minimum.default,
        aten.clone.default,
    }
)


@dataclass(frozen=True)
class Conv:
    """A two-dimensional convolution read from `node`; `is_conv(node)` must hold.

    Weight layout is that of PyTorch: Cout×Cin/groups×kh×kw, transposed Cin×Cout/groups×kh×kw.
    """

    node: fx.Node

    @property
    def input(self) -> fx.Node:
        return self._arguments["input"]

    @property
    def weight(self) -> fx.Node:
        return self._arguments["weight"]

    @property
    def bias(self) -> fx.Node | None:
        return self._arguments["bias"]

    @property
    def stride(self) -> Pair:
        return pair(self._arguments["stride"])

    @property
    def padding(self) -> Pair:
        """Zeros on each side, (height, width); `padding="same"` is resolved."""
        padding = self._arguments["padding"]
        if padding == "valid":
            return 0, 0
        if padding == "same":
            (kh, kw), (dh, dw) = self.kernel, self.dilation
            return dh * (kh - 1) // 2, dw * (kw - 1) // 2
        return pair(padding)

    @property
    def dilation(self) -> Pair:
        return pair(self._arguments["dilation"])

    @property
    def groups(self) -> int:
        return self._arguments["groups"]

    @property
    def transposed(self) -> bool:
        return self.node.target in _TRANSPOSED or self._arguments.get("transposed", False)

    @property
    def output_padding(self) -> Pair:
        return pair(self._arguments.get("output_padding", 0))

    @property
    def kernel(self) -> Pair:
        _, _, height, width = shape(self.weight)
        return height, width

    @property
    def in_channels(self) -> int:
        return shape(self.weight)[0 if self.transposed else 1] * (
            1 if self.transposed else self.groups
        )

    @property
    def out_channels(self) -> int:
        return shape(self.weight)[1 if self.transposed else 0] * (
            self.groups if self.transposed else 1
        )

    @property
    def macs(self) -> int:
        """Multiplications, padding counted, bias not."""
        batch, _, height, width = shape(self.input if self.transposed else self.node)
        return batch * height * width * prod(shape(self.weight))

    def keeps_size(self) -> bool:
        """Stride 1 with as much padding as the (odd) kernel takes away."""
        reach = tuple(d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True))
        pads = tuple(2 * pad for pad in self.padding)
        return self.stride == (1, 1) and reach == pads and not self.transposed

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        return arguments(self.node)


def is_conv(node: Any) -> bool:
    """Whether `Conv(node)` can be read.

    `padding="same"` of an even kernel pads its sides unequally and is not a `Conv`: the rewrite
    `explicit_padding` turns it into a pad and one.
    """
    if not isinstance(node, fx.Node) or node.target not in _CONVS + _TRANSPOSED:
        return False
    if len(shape(arguments(node)["weight"])) != 4:
        return False
    return not pads_unequally(node)


def pads_unequally(node: Any) -> bool:
    """Whether `node` is a convolution with `padding="same"` that needs unequal sides."""
    if not isinstance(node, fx.Node) or node.target is not aten.conv2d.padding:
        return False
    conv = Conv(node)
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel, strict=True)]
    return arguments(node)["padding"] == "same" and any(total % 2 for total in reach)


def convs(program: fx.GraphModule) -> Iterator[fx.Node]:
    """The convolutions of `program`, in graph order."""
    return (node for node in program.graph.nodes if is_conv(node))


def calls(program: fx.GraphModule, *ops: Any) -> Iterator[fx.Node]:
    """The calls of any of `ops`, in graph order."""
    return (node for node in program.graph.nodes if is_call(node, *ops))


def batch_norm_of(result: Any) -> fx.Node | None:
    """The batch norm whose values, not statistics, `result` is, in either spelling."""
    if is_call(result, aten.batch_norm.default):
        return result
    if not is_call(result, operator.getitem) or result.args[1] != 0:
        return None
    (source,) = result.all_input_nodes
    return source if is_call(source, aten._native_batch_norm_legit_no_training.default) else None


def is_floating(node: Any) -> bool:
    """Whether a value is of real numbers, not of integers or truth values."""
    return bool(node.meta["val"].is_floating_point())


def is_call(node: Any, *ops: Any) -> bool:
    """Whether `node` calls one of `ops`."""
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in ops


def op_counts(program: fx.GraphModule) -> Counter[str]:
    """How often each operator is called, by name: `{"aten.conv2d": 3, …}`."""
    return Counter(op_name(node) for node in program.graph.nodes if node.op == "call_function")


def only_user(node: fx.Node) -> fx.Node | None:
    """The node that reads `node`, when there is exactly one."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def by_group(conv: Conv, weight: Tensor) -> Tensor:
    """`weight` of `conv`, in either layout, as groups×Cout/groups×Cin/groups×kh×kw."""
    split = weight.unflatten(0, (conv.groups, -1))
    return split.transpose(1, 2) if conv.transposed else split


def from_groups(conv: Conv, weight: Tensor) -> Tensor:
    """The inverse of `by_group`."""
    return (weight.transpose(1, 2) if conv.transposed else weight).flatten(0, 1)


def emit_conv(
    program: fx.GraphModule,
    source: fx.Node,
    weight: fx.Node | Tensor,
    bias: fx.Node | Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    transposed: bool = False,
    output_padding: int | Pair = 0,
    hint: str = "weight",
) -> fx.Node:
    """A convolution of `source` at the current insertion point; tensors become buffers.

    Args:
        weight: Cout×Cin/groups×kh×kw, or Cin×Cout/groups×kh×kw when `transposed`.
        hint: goes into the names of the buffers.
    """
    weight = _as_node(program, weight, hint)
    bias = None if bias is None else _as_node(program, bias, f"{hint}_bias")
    places = list(pair(stride)), list(pair(padding))
    if transposed:
        return emit(
            program,
            aten.conv_transpose2d.input,
            *(source, weight, bias, *places),
            *(list(pair(output_padding)), groups, list(pair(dilation))),
        )
    return emit(
        program,
        aten.conv2d.default,
        *(source, weight, bias, *places, list(pair(dilation)), groups),
    )


def emit_conv_like(
    program: fx.GraphModule,
    conv: Conv,
    source: fx.Node,
    weight: fx.Node | Tensor,
    bias: fx.Node | Tensor | None,
    *,
    hint: str,
) -> fx.Node:
    """A convolution of `source` that goes about it as `conv` does, see `emit_conv`."""
    return emit_conv(
        program,
        source,
        weight,
        bias,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        transposed=conv.transposed,
        output_padding=conv.output_padding,
        hint=hint,
    )


def emit(program: fx.GraphModule, op: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """A call of `op` at the current insertion point, with `meta["val"]` set."""
    node = program.graph.call_function(op, args, kwargs)
    real = pytree.tree_map_only(fx.Node, _meta_tensor, (args, kwargs))
    node.meta["val"] = op(*real[0], **real[1])
    return node


def emit_with(
    program: fx.GraphModule, node: fx.Node, operands: Mapping[fx.Node, fx.Node]
) -> fx.Node:
    """The call that `node` is, at the current insertion point, with others in place of operands."""
    args = fx.map_arg(node.args, lambda operand: operands.get(operand, operand))
    kwargs = fx.map_arg(node.kwargs, lambda operand: operands.get(operand, operand))
    assert isinstance(args, tuple)
    assert isinstance(kwargs, dict)
    return emit(program, node.target, *args, **kwargs)


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an ATen call by name, defaults filled in."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    values = {argument.name: argument.default_value for argument in schema}
    values |= {argument.name: value for argument, value in zip(schema, node.args, strict=False)}
    return values | dict(node.kwargs)


def shape(node: fx.Node) -> tuple[int, ...]:
    """The static shape of the value of `node`."""
    return tuple(int(size) for size in node.meta["val"].shape)


def _meta_tensor(node: fx.Node) -> Any:
    return pytree.tree_map_only(
        Tensor,
        lambda value: torch.empty(value.shape, dtype=value.dtype, device="meta"),
        node.meta["val"],
    )


def _as_node(program: fx.GraphModule, value: fx.Node | Tensor, hint: str) -> fx.Node:
    return value if isinstance(value, fx.Node) else add_constant(program, hint, value)


def pair(value: Any) -> Pair:
    """`3`, `[3]` and `[3, 3]` all mean 3 in both directions."""
    values = [value] if isinstance(value, int) else list(value)
    return int(values[0]), int(values[-1])
