"""Write integer arithmetic into a program: quantize/dequantize pairs around what runs on integers.

One scale and zero-point per tensor (`qparams`), one scale per output channel of a convolution's
weight (`weight_rounding`): Jacob et al., CVPR 2018. Each target's converter turns the pairs around
an operation into its own integer kernel, so that one program and one set of ranges serve all.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pockethdr.export.aten import Conv, is_conv
from pockethdr.export.codes import is_dequantize
from pockethdr.export.placement import (
    FUSED,
    JOINS,
    RELAYOUTS,
    Placement,
    operations,
    placement_for,
)
from pockethdr.export.program import add_constant, constant_of, drop_unused_constants, kind_of
from pockethdr.export.qparams import QMAX, QMIN, Params, SharedRanges, params_of
from pockethdr.export.recipe import Recipe
from pockethdr.export.scheme import Scheme
from pockethdr.export.weight_rounding import scales_for_bias, weight_scales

#: `meta` of an activation's dequantize: the names of the values that share its range.
RANGE_OF = "pockethdr_range_of"


@dataclass(frozen=True)
class Quantized:
    """A program with its quantize/dequantize pairs; of each operation left in float, why."""

    program: fx.GraphModule
    floats: dict[str, str]


def quantized(
    program: fx.GraphModule,
    ranges: Mapping[str, tuple[float, float]],
    recipe: Recipe,
    scheme: Scheme,
) -> Quantized:
    """`program` with quantize/dequantize pairs; the given program is left untouched.

    Args:
        program: static shapes, constants folded and behind `get_attr`, `meta["val"]` on every node.
        ranges: node name → (low, high) of its value.
        recipe: what stays float.
        scheme: how the target wants its integers.

    Raises:
        RangeError: a value that becomes integer has no range, or one that is not finite.
    """
    _register_ops()
    program = copy.deepcopy(program)
    placed = placement_for(program, recipe, scheme)
    floats = {node.name: reason for node, reason in placed.floats.items()}
    shared = SharedRanges(ranges, margin=recipe.margin, symmetric=scheme.symmetric)
    _Writer(program, placed, shared, recipe, scheme).write()
    program.graph.eliminate_dead_code()
    drop_unused_constants(program)
    program.graph.lint()
    program.recompile()
    return Quantized(program, floats)


def _register_ops() -> None:
    """`torch.ops.quantized_decomposed` exists only once this module is imported."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401


class _Writer:
    """Inserts the pairs; one per value and distinct parameters."""

    def __init__(
        self,
        program: fx.GraphModule,
        placed: Placement,
        ranges: SharedRanges,
        recipe: Recipe,
        scheme: Scheme,
    ) -> None:
        self.program, self.ranges, self.recipe, self.scheme = program, ranges, recipe, scheme
        self.integer = set(placed.integer)
        self.inputs_only = scheme.placement == "inputs"
        self.pairs: dict[tuple[fx.Node, Params], fx.Node] = {}
        *_, self.last_input = program.graph.find_nodes(op="placeholder")

    def write(self) -> None:
        order = operations(self.program)
        if not self.inputs_only:
            for node in order:
                self._share_ranges(node)
        edges = [(value, user) for user in order for value in self._values_of(user)]
        output = self.program.graph.output_node()
        edges += [(value, output) for value in output.all_input_nodes]
        for value, user in edges:
            self._quantize_edge(value, user)
        for node in order:
            if node in self.integer:
                self._quantize_constants(node)

    def _values_of(self, user: fx.Node) -> list[fx.Node]:
        """What `user` reads that is not a constant."""
        return [n for n in user.all_input_nodes if n.op != "get_attr"]

    def _share_ranges(self, node: fx.Node) -> None:
        """One range for a relayout or join and its integer operands.

        A join takes in an operand whose kernel fixes its scale (tanh) only if all have that scale,
        which constants have not.
        """
        if node not in self.integer or kind_of(node) not in RELAYOUTS | JOINS:
            return
        operands, own = self._values_of(node), self.ranges.fixed(node)
        scales = {self.ranges.fixed(operand) for operand in node.all_input_nodes}
        alike = kind_of(node) in RELAYOUTS or len(scales) == 1
        for value in operands:
            if value in self.integer and (alike or self.ranges.fixed(value) == own):
                self.ranges.share(node, value)

    def _quantize_edge(self, value: fx.Node, user: fx.Node) -> None:
        """A pair between two operations; two where `user` wants other codes than `value` has."""
        produced = value in self.integer and not self.inputs_only
        if self._is_fused(value, user) or not (produced or user in self.integer):
            return
        wanted = self.ranges.params(user if self._imposes(user) else value)
        pairs = [self.ranges.params(value)] if produced else []
        if wanted not in pairs:
            pairs.append(wanted)
        source = value
        for params in pairs:
            source = self._pair(source, params)
        user.replace_input_with(value, source)

    def _imposes(self, user: fx.Node) -> bool:
        """Whether an operation's inputs must have its own output's parameters."""
        if self.inputs_only or user not in self.integer:
            return False
        return kind_of(user) in RELAYOUTS | JOINS

    def _is_fused(self, value: fx.Node, user: fx.Node) -> bool:
        """Whether `user` clamps the accumulator of `value`, so that no rounding lies between."""
        return (
            not self.inputs_only
            and value in self.integer
            and user in self.integer
            and kind_of(user) in FUSED
            and (is_conv(value) or kind_of(value) == "aten.add")
            and len(value.users) == 1
        )

    def _pair(self, value: fx.Node, params: Params) -> fx.Node:
        """The dequantized form of `value`, made on first use, right after it."""
        if (value, params) not in self.pairs:
            after = self.last_input if value.op == "placeholder" else value
            with self.program.graph.inserting_after(after):
                self.pairs[value, params] = self._insert_pair(value, params)
        real = self.pairs[value, params]
        real.meta[RANGE_OF] = real.meta.get(RANGE_OF, frozenset()) | params.of
        return real

    def _insert_pair(self, value: fx.Node, params: Params) -> fx.Node:
        graph, ops = self.program.graph, torch.ops.quantized_decomposed
        args = (params.scale, params.zero, QMIN, QMAX, torch.int8)
        stored = graph.call_function(ops.quantize_per_tensor.default, (value, *args))
        with graph.inserting_after(stored):
            real = graph.call_function(ops.dequantize_per_tensor.default, (stored, *args))
        return _described(stored, real, value)

    def _quantize_constants(self, node: fx.Node) -> None:
        if is_conv(node):
            weight = Conv(node).weight
            node.replace_input_with(weight, self._weight(Conv(node)))
            return
        for constant in [n for n in node.all_input_nodes if n.op == "get_attr"]:
            value = constant_of(constant, self.program)
            assert value is not None
            ends = float(value.min()), float(value.max())
            own = params_of(*ends, symmetric=self.scheme.symmetric)
            params = self.ranges.params(node) if self._imposes(node) else own
            node.replace_input_with(constant, self._pair(constant, params))

    def _weight(self, conv: Conv) -> fx.Node:
        """The dequantized weight of a convolution, one scale per output channel."""
        node, weight = conv.node, conv.weight
        value = constant_of(weight, self.program)
        assert value is not None
        axis = 1 if conv.transposed else 0
        scale = weight_scales(
            value, axis, method=self.recipe.weights, least=self._least_scales(conv)
        )
        zero = torch.zeros_like(scale, dtype=torch.int64)
        graph, ops = self.program.graph, torch.ops.quantized_decomposed
        span = (axis, -127, 127, torch.int8)
        with graph.inserting_before(node):
            scales = add_constant(self.program, f"{node.name}_scale", scale)
            zeros = add_constant(self.program, f"{node.name}_zero", zero)
            args = (scales, zeros, *span)
            if self.scheme.fold_weights:
                codes = ops.quantize_per_channel.default(value, scale, zero, *span)
                stored = add_constant(self.program, f"{node.name}_int8", codes)
            else:
                stored = graph.call_function(ops.quantize_per_channel.default, (weight, *args))
            real = graph.call_function(ops.dequantize_per_channel.default, (stored, *args))
        return _described(stored, real, weight)

    def _least_scales(self, conv: Conv) -> Tensor | None:
        bias = None if conv.bias is None else constant_of(conv.bias, self.program)
        if bias is None or not is_dequantize(conv.input):
            return None
        return scales_for_bias(bias, float(conv.input.args[1]))  # type: ignore[arg-type]


def _described(stored: fx.Node, real: fx.Node, like: fx.Node) -> fx.Node:
    """Copy what a converter wants to know of a node onto its pair."""
    value = like.meta.get("val")
    for node in (stored, real):
        for key in ("nn_module_stack", "stack_trace"):
            if key in like.meta:
                node.meta[key] = like.meta[key]
    if isinstance(value, Tensor):
        stored.meta["val"], real.meta["val"] = value.to(torch.int8), value
    return real
