"""Static forms of a normal form: constant convolutions, products with run-time maps, sums.

The terms of a place are planned (`planning`) and emitted as static nodes. W0 + P Φ Qᵀ becomes
conv1×1(P̃, Φ ⊙ tile(conv(Q, x))), Σ_k α_k W_k becomes Σ_k α_k ⊙ conv(W_k, x), and Λ_out W0 Λ_in
becomes Λ_out ⊙ conv(W0, Λ_in ⊙ x).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor, fx

from pockethdr.export.algebra import (
    Axis,
    Constant,
    Label,
    Leaf,
    Value,
    Window,
    Windows,
    contracted,
    size_of,
)
from pockethdr.export.aten import aten, emit, emit_conv, shape
from pockethdr.export.planning import POINTWISE, Plan, Roles, ends_in, groups_of, unique
from pockethdr.export.program import add_constant

#: A factor without pixels is repeated by one convolution, unless that takes more weights than this.
MAX_REPETITION = 1 << 14


@dataclass(frozen=True)
class Map:
    """A node of shape N×C×H×W (each may be 1) and the labels of its channels."""

    node: fx.Node
    channels: Axis


class Lowering:
    """Adds the static form of one place to a program, at the current insertion point.

    Attributes:
        macs: multiply-accumulates emitted so far, by what they run once for: `pixel` or `image`.
    """

    def __init__(self, program: fx.GraphModule, roles: Roles) -> None:
        self.program, self.roles = program, roles
        self.macs = Counter[str]()

    def emitted(self, value: Value, plans: Sequence[Plan], like: fx.Node) -> fx.Node:
        """The sum of all plans, with the shape of `like`."""
        output = self.roles.channels(value.labels)
        bias = _constant_part(value, output)
        total: Map | None = None
        for group in _grouped(plans):
            part, bias = self._group(group, bias)
            total = part if total is None else Map(self._add(total.node, part.node), output)
        assert total is not None
        if bias is not None:
            offset = add_constant(self.program, "bias", bias.reshape(1, -1, 1, 1))
            total = Map(self._add(total.node, offset), output)
        return self._shaped(total, value, shape(like))

    def _group(self, plans: Sequence[Plan], bias: Tensor | None) -> tuple[Map, Tensor | None]:
        """The sum of plans that share their post scaling, and the bias if it is still to be added.

        A bias goes into the first convolution, unless a post scaling would scale it too.
        """
        own = None if plans[0].post else bias
        total: Map | None = None
        for plan in plans:
            part = self._mixed(plan, own) if plan.core else self._convolved(plan, own)
            own = None
            total = part if total is None else Map(self._add(total.node, part.node), part.channels)
        assert total is not None
        for leaf in plans[0].post:
            total = self._scaled(total, leaf)
        return total, bias if plans[0].post else None

    def _convolved(self, plan: Plan, bias: Tensor | None) -> Map:
        return self._linear(self._input(plan), plan.inner, plan.q, plan.window, plan.data, bias)

    def _mixed(self, plan: Plan, bias: Tensor | None) -> Map:
        """conv1×1(P̃, Φ ⊙ tile(conv(Q, x))): Φ meets the L channels concatenated L times."""
        z = self._linear(self._input(plan), plan.inner, plan.q, plan.window, plan.data)
        mixed = self._widened(z, plan.latent)
        for leaf in plan.core:
            mixed = self._scaled(mixed, leaf)
        return self._linear(mixed, plan.output, plan.p, bias=bias)

    def _input(self, plan: Plan) -> Map:
        """What the first convolution reads: the data as N×C×H×W, scaled channel by channel."""
        data = plan.data
        if isinstance(data, Windows):
            _, _, height, width = shape(data.node)
            rows, columns = Label(height), Label(width)
            whole = Leaf(data.node, (data.axes[0], data.axes[1], (rows,), (columns,)))
            roles = Roles(self.roles.batch, frozenset({rows}), frozenset({columns}))
            source = self._leaf(whole, roles)
        else:
            source = self._leaf(data)
        for leaf in plan.pre:
            source = self._scaled(source, leaf)
        return source

    def _linear(
        self,
        source: Map,
        output: Axis,
        constants: Sequence[Constant],
        window: Window = POINTWISE,
        data: Leaf | None = None,
        bias: Tensor | None = None,
    ) -> Map:
        """A convolution from the channels of `source` to `output` with the constants as weights."""
        taps = data.taps if isinstance(data, Windows) else ()
        plain = not taps and source.channels == output and window == POINTWISE
        if plain and bias is None and not any(c.labels for c in constants):
            factor = math.prod(float(c.value) for c in constants)
            if factor == 1:
                return source
            return Map(emit(self.program, aten.mul.Tensor, source.node, factor), output)
        only_sums = not constants and not taps and size_of(output) < size_of(source.channels)
        groups = () if only_sums else groups_of(source.channels, output)  # a sum is one group
        rest = source.channels[len(groups) :]
        weight = _weight(constants, output, rest, taps)
        weight = weight.reshape(size_of(output), size_of(rest), *window.kernel)
        weight, window = _cropped(weight, window)
        node = emit_conv(
            self.program,
            source.node,
            weight,
            bias,
            stride=window.stride,
            padding=window.padding,
            dilation=window.dilation,
            groups=size_of(groups),
            hint="lowrank",
        )
        self._count(node, weight.numel())
        return Map(node, output)

    def _count(self, node: fx.Node, macs: int) -> None:
        self.macs["image" if shape(node)[2:] == (1, 1) else "pixel"] += macs

    def _scaled(self, source: Map, leaf: Leaf) -> Map:
        """`source` times a run-time factor, repeated over the channels that it lacks."""
        factor = self._widened(self._leaf(leaf), source.channels)
        node = emit(self.program, aten.mul.Tensor, source.node, factor.node)
        return Map(node, source.channels)

    def _widened(self, source: Map, channels: Axis) -> Map:
        """Repeat the channels of `source` so that they run over `channels`."""
        if source.channels == channels:
            return source
        weights = size_of(source.channels) * size_of(channels)
        is_small = shape(source.node)[2:] == (1, 1) and weights <= MAX_REPETITION
        if is_small or not ends_in(channels, source.channels):
            return self._linear(source, channels, ())
        times = size_of(channels) // size_of(source.channels)
        return Map(self._repeated(source.node, times), channels)

    def _repeated(self, node: fx.Node, times: int) -> fx.Node:
        """Concatenate `node` with itself along C, two at a time (wider ones leave XNNPACK)."""
        if times == 1:
            return node
        half = self._repeated(node, times // 2)
        whole = emit(self.program, aten.cat.default, [half, half], 1)
        return whole if times % 2 == 0 else emit(self.program, aten.cat.default, [whole, node], 1)

    def _leaf(self, leaf: Leaf, roles: Roles | None = None) -> Map:
        """A run-time tensor as N×C×H×W, its channel labels in the order in which they lie."""
        roles = roles or self.roles
        runs = [(role, tuple(run)) for role, run in groupby(leaf.labels, roles.of)]
        order = sorted(range(len(runs)), key=lambda i: "nchw".index(runs[i][0]))
        node = leaf.node
        if order != list(range(len(runs))):
            node = self._reshape(node, [size_of(run) for _, run in runs])
            node = emit(self.program, aten.permute.default, node, order)
        sizes = [size_of(x for x in leaf.labels if roles.of(x) == wanted) for wanted in "nchw"]
        return Map(self._reshape(node, sizes), roles.channels(leaf.labels))

    def _shaped(self, total: Map, value: Value, wanted: Sequence[int]) -> fx.Node:
        """Give the sum the axes of the place, expanding what no term varied over."""
        roles = [self.roles.of(label) for label in value.labels]
        node, order = total.node, "".join(dict.fromkeys(roles))
        full = [size_of(x for x in value.labels if self.roles.of(x) == r) for r in "nchw"]
        if list(shape(node)) != full:
            node = emit(self.program, aten.expand.default, node, full)
        if roles != sorted(roles, key="nchw".index):
            rest = [role for role in "nchw" if role not in order]
            node = emit(
                self.program,
                aten.permute.default,
                node,
                ["nchw".index(role) for role in [*order, *rest]],
            )
        return self._reshape(node, wanted)

    def _reshape(self, node: fx.Node, sizes: Sequence[int]) -> fx.Node:
        if shape(node) == tuple(sizes):
            return node
        return emit(self.program, aten.reshape.default, node, list(sizes))

    def _add(self, a: fx.Node, b: fx.Node) -> fx.Node:
        return emit(self.program, aten.add.Tensor, a, b)


def _weight(constants: Sequence[Constant], output: Axis, inputs: Axis, taps: Axis) -> Tensor:
    """Constants as a tensor over output, input and taps; a label on both sides is an identity."""
    both = {label: Label(label.size) for label in (*inputs, *taps) if label in set(output)}
    eyes = [
        Constant(torch.eye(label.size, dtype=torch.float64), (label, copy))
        for label, copy in both.items()
    ]
    columns = [both.get(label, label) for label in (*inputs, *taps)]
    return contracted([*constants, *eyes], [*output, *columns])


def _cropped(weight: Tensor, window: Window) -> tuple[Tensor, Window]:
    """Cut off border taps that are all zero: a 1×1 Q placed at the centre tap is 1×1 again."""
    for dim in (2, 3):
        while weight.shape[dim] > 2 and not weight.transpose(0, dim)[[0, -1]].any():
            axis = dim - 2
            padding = list(window.padding)
            padding[axis] -= window.dilation[axis]
            if padding[axis] < 0:
                break
            weight = weight.narrow(dim, 1, weight.shape[dim] - 2)
            kernel = (weight.shape[2], weight.shape[3])
            window = replace(window, kernel=kernel, padding=(padding[0], padding[1]))
    return weight, window


def _grouped(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Plans by their post scaling; those that are one convolution of the same data are summed."""
    groups = dict[tuple[Leaf, ...], list[Plan]]()
    for plan in plans:
        group = groups.setdefault(plan.post, [])
        twin = next((i for i, other in enumerate(group) if _same_convolution(plan, other)), None)
        if twin is None:
            group.append(plan)
        else:
            group[twin] = _summed(group[twin], plan)
    return sorted(groups.values(), key=lambda group: bool(group[0].post))


def _same_convolution(a: Plan, b: Plan) -> bool:
    return not a.core and not b.core and (a.data, a.pre) == (b.data, b.pre)


def _summed(a: Plan, b: Plan) -> Plan:
    """Two convolutions of the same data as one, of the sum of their kernels."""
    taps = a.data.taps if isinstance(a.data, Windows) else ()
    inputs = tuple(x for x in a.data.labels if x not in taps)
    labels = unique([*a.output, *inputs, *taps])
    used = {label for plan in (a, b) for c in plan.q for label in c.labels}
    kept = tuple(label for label in labels if label in used)
    value = contracted(a.q, kept) + contracted(b.q, kept)
    return replace(a, q=(Constant(value, kept),))


def _constant_part(value: Value, output: Axis) -> Tensor | None:
    """The terms without a run-time factor, as a bias for each output channel."""
    fixed = [term for term in value.terms if not term.leaves]
    if not fixed:
        return None
    parts = [contracted(term.constants, output) * term.scale for term in fixed]
    return torch.stack(parts).sum(0).reshape(-1)
