"""Write integer arithmetic into a program: quantize/dequantize pairs around what runs on integers.

A value x with range [low, high] becomes s·(clamp(round(x / s) + z, −128, 127) − z), one scale s and
zero-point z per tensor; a convolution's weight the same with z = 0 and one s per output channel
(Jacob et al., CVPR 2018). Each target's converter turns the pairs around an operation into its own
integer kernel, so that one program and one set of ranges serve all of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx

from pockethdr.errors import PocketError
from pockethdr.export.aten import Conv, is_conv
from pockethdr.export.placement import (
    FUSED,
    JOINS,
    RELAYOUTS,
    Placement,
    kind_of,
    macs_of,
    operations,
    placement_for,
)
from pockethdr.export.recipe import Recipe
from pockethdr.export.rewrite import add_constant, constant_of, drop_unused_constants
from pockethdr.export.scheme import Scheme

QMIN, QMAX = -128, 127
#: `meta` of an activation's dequantize: the names of the values that share its range.
RANGE_OF = "pockethdr_range_of"


class RangeError(PocketError):
    """A calibrated range is missing or is not one."""


@dataclass(frozen=True)
class Summary:
    """What became of each operation. `floats` maps name → reason; shares are in [0, 1]."""

    int8: tuple[str, ...]
    floats: dict[str, str]
    int8_mac_share: float


@dataclass(frozen=True)
class Quantized:
    """A program with its quantize/dequantize pairs, and the account of it."""

    program: fx.GraphModule
    summary: Summary


@dataclass(frozen=True)
class Params:
    """Scale and zero-point of one tensor; `of` names the values whose range they stand for.

    `of` is empty where the range is the kernel's own, or a constant's.
    """

    scale: float
    zero: int
    of: frozenset[str] = field(default=frozenset(), compare=False)


#: Integer kernels of these give a fixed output scale, the whole range of the function.
FIXED = {
    "aten.tanh": (Params(1 / 128, 0), Params(1 / 127, 0)),
    "aten.sigmoid": (Params(1 / 256, -128), Params(1 / 127, 0)),
}


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
    summary = _summary(program, placed)
    _Writer(program, placed, _Ranges(ranges, recipe, scheme), recipe, scheme).write()
    program.graph.eliminate_dead_code()
    drop_unused_constants(program)
    program.graph.lint()
    program.recompile()
    return Quantized(program, summary)


def params_of(low: float, high: float, *, symmetric: bool) -> Params:
    """Scale and zero-point of a range, widened to hold 0 so that zero padding is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Params(1 / 255, 0)
    if symmetric:
        return Params(max(-low, high) / QMAX, 0)
    scale = (high - low) / (QMAX - QMIN)
    return Params(scale, max(QMIN, min(QMAX, round(QMIN - low / scale))))


def _register_ops() -> None:
    """`torch.ops.quantized_decomposed` exists only once this module is imported."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401


def _summary(program: fx.GraphModule, placed: Placement) -> Summary:
    total = sum(macs_of(node) for node in operations(program))
    integer = sum(macs_of(node) for node in placed.integer)
    return Summary(
        tuple(node.name for node in placed.integer),
        {node.name: reason for node, reason in placed.floats.items()},
        integer / total if total else 0.0,
    )


class _Ranges:
    """The parameters of each value: its own range, or the one it shares."""

    def __init__(
        self, ranges: Mapping[str, tuple[float, float]], recipe: Recipe, scheme: Scheme
    ) -> None:
        self.ranges, self.margin, self.symmetric = ranges, recipe.margin, scheme.symmetric
        self.group: dict[fx.Node, fx.Node] = {}
        self.members: dict[fx.Node, list[fx.Node]] = {}

    def fixed(self, node: fx.Node) -> Params | None:
        """The kernel's own output parameters, for the node or any in its group."""
        for member in self._members_of(node):
            if kind_of(member) in FIXED:
                return FIXED[kind_of(member)][self.symmetric]
        return None

    def share(self, node: fx.Node, other: fx.Node) -> None:
        """Give two values one range."""
        into, gone = self._root(node), self._root(other)
        if into is not gone:
            members = self._members_of(into) + self._members_of(gone)
            self.members[into] = members
            self.group.update(dict.fromkeys(members, into))

    def params(self, node: fx.Node) -> Params:
        fixed = self.fixed(node)
        if fixed is not None:
            return fixed
        members = self._members_of(node)
        bounds = [self._range(member) for member in members]
        low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
        found = params_of(low * self.margin, high * self.margin, symmetric=self.symmetric)
        return replace(found, of=frozenset(member.name for member in members))

    def _root(self, node: fx.Node) -> fx.Node:
        return self.group.get(node, node)

    def _members_of(self, node: fx.Node) -> list[fx.Node]:
        return self.members.get(self._root(node), [node])

    def _range(self, node: fx.Node) -> tuple[float, float]:
        if node.name not in self.ranges:
            raise RangeError(
                f"no calibrated range for `{node.name}` ({kind_of(node)})",
                expected="one range for every value that becomes INT8",
                fix="calibrate this very network and size again",
            )
        low, high = self.ranges[node.name]
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise RangeError(
                f"range of `{node.name}` is [{low}, {high}]",
                expected="two finite numbers, the lower first",
                fix="calibrate again; a NaN here comes from the weights or a bracket",
            )
        return low, high


class _Writer:
    """Inserts the pairs; one per value and distinct parameters."""

    def __init__(
        self,
        program: fx.GraphModule,
        placed: Placement,
        ranges: _Ranges,
        recipe: Recipe,
        scheme: Scheme,
    ) -> None:
        self.program, self.ranges, self.recipe, self.scheme = program, ranges, recipe, scheme
        self.integer = set(placed.integer)
        self.inputs_only = scheme.placement == "inputs"
        self.pairs: dict[tuple[fx.Node, Params], fx.Node] = {}
        inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
        self.last_input = inputs[-1]

    def write(self) -> None:
        order = operations(self.program)
        if not self.inputs_only:
            for node in order:
                self._share_ranges(node)
        edges = [(value, user) for user in order for value in self._values_of(user)]
        output = next(n for n in self.program.graph.nodes if n.op == "output")
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
        if node not in self.integer or kind_of(node) not in RELAYOUTS | JOINS:
            return
        fixed = self.ranges.fixed(node)
        for value in self._values_of(node):
            free = self.ranges.fixed(value) == fixed or kind_of(node) in RELAYOUTS
            if value in self.integer and (free or self._all_fixed_alike(node)):
                self.ranges.share(node, value)

    def _all_fixed_alike(self, node: fx.Node) -> bool:
        fixed = {self.ranges.fixed(value) for value in self._values_of(node)}
        return len(fixed) == 1

    def _quantize_edge(self, value: fx.Node, user: fx.Node) -> None:
        produced = value in self.integer and not self.inputs_only
        if self._is_fused(value, user) or not (produced or user in self.integer):
            return
        source = value
        if produced:
            own = self.ranges.params(value)
            source = self._pair(value, own)
            wanted = self.ranges.params(user) if self._imposes(user) else own
        else:
            wanted = self.ranges.params(user if self._imposes(user) else value)
        if not produced or wanted != own:
            source = self._pair(source, wanted)
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
            params = params_of(
                float(value.min()), float(value.max()), symmetric=self.scheme.symmetric
            )
            node.replace_input_with(constant, self._pair(constant, params))

    def _weight(self, conv: Conv) -> fx.Node:
        """The dequantized weight of a convolution, one scale per output channel."""
        node, weight = conv.node, conv.weight
        value = constant_of(weight, self.program)
        assert value is not None
        axis = 1 if conv.transposed else 0
        scale = weight_scales(value, axis, method=self.recipe.weights)
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


def with_rounded_weights(program: fx.GraphModule) -> fx.GraphModule:
    """A copy of a quantised program whose weights hold what is left of them once rounded.

    It computes the same. A converter that divides by scales otherwise breaks ties otherwise, and
    here finds none.
    """
    program, ops = copy.deepcopy(program), torch.ops.quantized_decomposed
    for node in list(program.graph.nodes):
        if node.target is ops.quantize_per_channel.default:
            weight, *stored_as = node.args
            scale, zero = (constant_of(part, program) for part in stored_as[:2])
            given = (scale, zero, *stored_as[2:])
            codes = ops.quantize_per_channel.default(constant_of(weight, program), *given)
            settled = ops.dequantize_per_channel.default(codes, *given)
            with program.graph.inserting_before(node):
                rounded = add_constant(program, f"{node.name}_rounded", settled)
            node.replace_input_with(weight, rounded)
    drop_unused_constants(program)
    program.recompile()
    return program


def weight_scales(weight: Tensor, axis: int, *, method: str) -> Tensor:
    """One scale per index of `axis`, so that the weights of that channel span ±127.

    `mse` clips each channel where the squared rounding error is least. A channel of zeros, or one
    far smaller than the rest, gets a floor: its bias in units of scale must fit 32 bits.
    """
    rows = weight.detach().movedim(axis, 0).flatten(1).double()
    full = rows.abs().amax(1)
    full = full.clamp_min(max(float(full.max()) * 1e-4, 1e-8))
    if method == "mse":
        full = _least_error(rows, full)
    return (full / 127).float()


def _least_error(rows: Tensor, full: Tensor) -> Tensor:
    best, error = full, torch.full_like(full, torch.inf)
    for factor in torch.linspace(0.6, 1.0, 41).tolist():
        scale = (full * factor / 127)[:, None]
        codes = (rows / scale).round().clamp(-127, 127)
        now = (codes * scale - rows).square().sum(1)
        best = torch.where(now < error, full * factor, best)
        error = torch.minimum(now, error)
    return best


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
