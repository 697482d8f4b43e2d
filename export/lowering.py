"""Static forms of a normal form: constant convolutions, products with run-time maps, sums.

One term of a dynamic convolution, with X the windows of its input, is planned as

    y[O] = post[O] ⊙ Σ_S  P[O, S] · ( core[S] ⊙ Σ_in  Q[I, in] · (pre ⊙ X)[in] ),     I ⊆ S

where Q holds the constants that touch X, P the others, and S are the latent channels (L² for a full
Φ of rank L, L·b for blocks of b). For W0 + P Φ Qᵀ that is conv1×1(P̃, Φ ⊙ tile(conv(Q, x))), for
Σ_k α_k W_k it is Σ_k α_k ⊙ conv(W_k, x), for Λ_out W0 Λ_in it is Λ_out ⊙ conv(W0, Λ_in ⊙ x).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, get_args

import torch
from torch import Tensor, fx

from pockethdr.export.algebra import (
    Axis,
    Constant,
    Label,
    Leaf,
    Patches,
    Term,
    Value,
    Window,
    contracted,
    size_of,
)
from pockethdr.export.aten import aten, emit, emit_conv, shape
from pockethdr.export.rewrite import add_constant

#: `tiled`: Q repeated, so that its convolution writes all L² channels.  `concat`: the L channels
#: concatenated L times.  `sum01`: as `concat`, then a fixed 0/1 convolution to L channels before P.
#: `matmul`: Φ·z as a batched matrix product, where Φ is the same for all pixels.
Form = Literal["tiled", "concat", "sum01", "matmul"]
FORMS: tuple[Form, ...] = get_args(Form)

#: More latent channels than this would be slower than the kernel they replace.
MAX_LATENT = 2048

#: What writing and reading back one channel costs, in multiply-accumulates, to compare plans.
MACS_PER_CHANNEL = 32

POINTWISE = Window((1, 1), (1, 1), (0, 0), (1, 1))


@dataclass(frozen=True)
class Roles:
    """What the labels of a place stand for; all others are channels."""

    batch: frozenset[Label]
    rows: frozenset[Label]
    columns: frozenset[Label]

    def of(self, label: Label) -> str:
        if label in self.batch:
            return "n"
        return "h" if label in self.rows else "w" if label in self.columns else "c"

    def channels(self, labels: Iterable[Label]) -> Axis:
        return tuple(label for label in labels if self.of(label) == "c")

    def is_map(self, leaf: Leaf) -> bool:
        return any(self.of(label) in "hw" for label in leaf.labels)


@dataclass(frozen=True)
class Plan:
    """How one term is computed; see the module's equation."""

    data: Leaf
    pre: tuple[Leaf, ...]
    core: tuple[Leaf, ...]
    post: tuple[Leaf, ...]
    q: tuple[Constant, ...]
    p: tuple[Constant, ...]
    inner: Axis
    latent: Axis
    output: Axis
    macs: float = 0.0

    @property
    def cost(self) -> float:
        """MACs for each pixel, and the channels written on the way; infinite if too wide."""
        if max(size_of(self.latent), size_of(self.inner)) > MAX_LATENT:
            return math.inf
        written = size_of(self.inner) + (1 + len(self.core)) * size_of(self.latent)
        return self.macs + (MACS_PER_CHANNEL * written if self.core else 0)

    @property
    def window(self) -> Window:
        return self.data.window if isinstance(self.data, Patches) else POINTWISE


# ---- planning ------------------------------------------------------------------------------------


def roles_of(value: Value) -> Roles:
    """Read batch, rows and columns of a place from the feature maps in its terms."""
    leaves = [leaf for term in value.terms for leaf in term.leaves]
    maps = feature_maps(leaves)
    out, fixed = set(value.labels), {x for t in value.terms for c in t.constants for x in c.labels}
    rows = {label for leaf in maps for label in leaf.axes[-2]}
    columns = {label for leaf in maps for label in leaf.axes[-1]}
    batch = {label for leaf in maps or leaves for label in leaf.axes[0] if len(leaf.axes) > 1}
    for leaf in maps:
        if isinstance(leaf, Patches) and not leaf.axes[0] and len(value.axes[1]) > 1:
            batch |= set(leaf.channels[:1])  # batch folded into the groups of a convolution
    return Roles(frozenset((batch & out) - fixed), frozenset(rows), frozenset(columns))


def feature_maps(leaves: Sequence[Leaf]) -> list[Leaf]:
    """The leaves with pixels; beside the windows of a convolution, no other is taken for one."""
    windows = [leaf for leaf in leaves if isinstance(leaf, Patches)]
    return [*windows] or [leaf for leaf in leaves if leaf.spatial]


def planned(term: Term, output: Axis, roles: Roles) -> Plan:
    """The cheapest plan of a term with at least one leaf."""
    windows = [leaf for leaf in term.leaves if isinstance(leaf, Patches)]
    maps = [leaf for leaf in term.leaves if roles.is_map(leaf)]
    candidates = windows or maps or list(term.leaves)
    plans = (_planned(term, data, output, roles) for data in candidates)
    return min(plans, key=lambda plan: plan.cost)


def _planned(term: Term, data: Leaf, output: Axis, roles: Roles) -> Plan:
    others = list(term.leaves)
    others.remove(data)
    own, out = set(roles.channels(data.labels)), set(output)
    inputs = own - set(data.taps) if isinstance(data, Patches) else set[Label]()
    pre, core, post = list[Leaf](), list[Leaf](), list[Leaf]()
    for leaf in others:
        channels = set(roles.channels(leaf.labels))
        if channels <= out:
            post.append(leaf)
        elif channels <= inputs and not roles.is_map(leaf):
            pre.append(leaf)
        else:
            core.append(leaf)
    mixed = {label for leaf in core for label in roles.channels(leaf.labels)}
    scale = Constant(torch.tensor(term.scale, dtype=torch.float64), ())
    q, p = _touching(own, term.constants, mixed | out)
    p = (*p, scale)
    if not core:  # one convolution does it all
        q, p = (*q, *p), ()
        inner = latent = output
    else:
        free = [*data.labels, *chain.from_iterable(c.labels for c in q)]
        kept = mixed | out | {label for c in p for label in c.labels}
        inner = _unique(label for label in roles.channels(free) if label in kept)
        latent = _latent_order(inner, core, roles, own & set(inner) & out)
        inner = tuple(label for label in latent if label in set(inner))
    plan = Plan(data, tuple(pre), tuple(core), tuple(post), q, p, inner, latent, output)
    return replace(plan, macs=_macs(plan, roles))


def _touching(
    start: set[Label], constants: Sequence[Constant], boundary: set[Label]
) -> tuple[tuple[Constant, ...], tuple[Constant, ...]]:
    """Split constants into those reached from `start` without crossing `boundary`, and the rest."""
    reached, rest, front = list[Constant](), list(constants), start - boundary
    while hit := [c for c in rest if front & set(c.labels)]:
        reached += hit
        rest = [c for c in rest if c not in hit]
        front |= {label for c in hit for label in c.labels} - boundary
    return tuple(reached), tuple(rest)


def _latent_order(inner: Axis, core: Sequence[Leaf], roles: Roles, groups: set[Label]) -> Axis:
    """Group labels first, then the order in which the largest run-time factor already lies."""
    widest = max((roles.channels(leaf.labels) for leaf in core), key=size_of)
    if set(inner) >= set(widest):
        widest = inner
    rest = chain(widest, inner, *(roles.channels(leaf.labels) for leaf in core))
    return _unique(sorted(rest, key=lambda label: label not in groups))


def _macs(plan: Plan, roles: Roles) -> float:
    """Multiply-accumulates for each pixel; a label on both sides of a convolution is a group."""
    taps = plan.data.taps if isinstance(plan.data, Patches) else ()
    inputs = {x for x in roles.channels(plan.data.labels) if x not in taps}
    first = size_of(plan.inner) * size_of(inputs - set(plan.inner)) * size_of(taps)
    if not plan.core:
        return first
    last = size_of(plan.latent) * size_of(set(plan.output) - set(plan.latent))
    return first + size_of(plan.latent) * len(plan.core) + last


def _unique(labels: Iterable[Label]) -> Axis:
    return tuple(dict.fromkeys(labels))


# ---- emission ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Map:
    """A node of shape N×C×H×W (each may be 1) and the labels of its channels."""

    node: fx.Node
    channels: Axis


class Lowering:
    """Adds the static form of one place to a program, at the current insertion point."""

    def __init__(self, program: fx.GraphModule, roles: Roles, form: Form) -> None:
        self.program, self.roles, self.form = program, roles, form
        self.macs = 0

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
        """Plans that share their post scaling; a bias goes in when nothing scales it."""
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
        if self.form == "matmul" and (product := self._matrix_product(plan)):
            return self._linear(product, plan.output, plan.p, bias=bias)
        wide = plan.latent if self.form == "tiled" else plan.inner
        z = self._linear(self._input(plan), wide, plan.q, plan.window, plan.data)
        mixed = self._widened(z, plan.latent)
        for leaf in plan.core:
            mixed = self._scaled(mixed, leaf)
        if self.form == "sum01":
            needed = {*plan.output, *(label for c in plan.p for label in c.labels)}
            kept = tuple(label for label in plan.latent if label in needed)
            mixed = self._linear(mixed, kept, ())
        return self._linear(mixed, plan.output, plan.p, bias=bias)

    def _matrix_product(self, plan: Plan) -> Map | None:
        """Φ (N×L×M) · z (N×M×HW), when the only run-time factor is one matrix for each image."""
        kept = {*plan.output, *(label for c in plan.p for label in c.labels)}
        if len(plan.core) != 1 or self.roles.is_map(plan.core[0]) or kept & set(plan.inner):
            return None
        rows = tuple(label for label in plan.latent if label not in plan.inner)
        phi = self._widened(self._leaf(plan.core[0]), (*rows, *plan.inner))
        z = self._linear(self._input(plan), plan.inner, plan.q, plan.window, plan.data)
        n, m, height, width = shape(z.node)
        matrix = self._reshape(phi.node, (shape(phi.node)[0], size_of(rows), m))
        pixels = self._reshape(z.node, (n, m, height * width))
        product = emit(self.program, aten.matmul.default, matrix, pixels)
        node = self._reshape(product, (shape(product)[0], size_of(rows), height, width))
        return Map(node, rows)

    def _input(self, plan: Plan) -> Map:
        """What the first convolution reads: the data as N×C×H×W, scaled channel by channel."""
        data = plan.data
        if isinstance(data, Patches):
            _, _, height, width = shape(data.node)
            rows, columns = Label(height), Label(width)
            whole = Leaf(data.node, (data.axes[0], data.axes[1], (rows,), (columns,)))
            roles = Roles(self.roles.batch, frozenset({rows}), frozenset({columns}))
            source = Lowering(self.program, roles, self.form)._leaf(whole)
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
        taps = data.taps if isinstance(data, Patches) else ()
        plain = not taps and source.channels == output and window == POINTWISE
        if plain and bias is None and not any(c.labels for c in constants):
            factor = math.prod(float(c.value) for c in constants)
            if factor == 1:
                return source
            return Map(emit(self.program, aten.mul.Tensor, source.node, factor), output)
        groups = _shared_prefix(source.channels, output) if constants else ()
        rest = source.channels[len(groups) :]
        weight = _weight(constants, output, rest, taps)
        weight = weight.reshape(size_of(output), size_of(rest), *window.kernel)
        weight, window = _cropped(weight, window)
        self.macs += weight.numel()
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
        return Map(node, output)

    def _scaled(self, source: Map, leaf: Leaf) -> Map:
        factor = self._widened(self._leaf(leaf), source.channels)
        node = emit(self.program, aten.mul.Tensor, source.node, factor.node)
        return Map(node, source.channels)

    def _widened(self, source: Map, channels: Axis) -> Map:
        """Repeat the channels of `source` so that they run over `channels`."""
        if source.channels == channels:
            return source
        rest = len(channels) - len(source.channels)
        whole_map = shape(source.node)[2:] != (1, 1)
        if self.form != "tiled" and whole_map and channels[rest:] == source.channels:
            return Map(self._repeated(source.node, size_of(channels[:rest])), channels)
        return self._linear(source, channels, ())

    def _repeated(self, node: fx.Node, times: int) -> fx.Node:
        """Concatenate `node` with itself along C, two at a time (wider ones leave XNNPACK)."""
        if times == 1:
            return node
        half = self._repeated(node, times // 2)
        whole = emit(self.program, aten.cat.default, [half, half], 1)
        return whole if times % 2 == 0 else emit(self.program, aten.cat.default, [whole, node], 1)

    def _leaf(self, leaf: Leaf) -> Map:
        """A run-time tensor as N×C×H×W, its channel labels in the order in which they lie."""
        labels = leaf.labels
        runs = [(self.roles.of(x), x.size) for x in labels]
        merged = list[tuple[str, int]]()
        for role, size in runs:
            if merged and merged[-1][0] == role:
                merged[-1] = (role, merged[-1][1] * size)
            else:
                merged.append((role, size))
        order = sorted(range(len(merged)), key=lambda i: "nchw".index(merged[i][0]))
        node = leaf.node
        if order != list(range(len(merged))):
            node = self._reshape(node, [size for _, size in merged])
            node = emit(self.program, aten.permute.default, node, order)
        sizes = [math.prod(size for role, size in merged if role == wanted) for wanted in "nchw"]
        return Map(self._reshape(node, sizes), self.roles.channels(labels))

    def _shaped(self, total: Map, value: Value, wanted: Sequence[int]) -> fx.Node:
        """Give the sum the axes of the place, expanding what no term varied over."""
        roles = [self.roles.of(label) for label in value.labels]
        node, order = total.node, "".join(dict.fromkeys(roles))
        full = [math.prod(x.size for x in value.labels if self.roles.of(x) == r) for r in "nchw"]
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


def _shared_prefix(a: Axis, b: Axis) -> Axis:
    length = 0
    while length < min(len(a), len(b)) and a[length] is b[length]:
        length += 1
    return a[:length]


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
    taps = a.data.taps if isinstance(a.data, Patches) else ()
    inputs = tuple(x for x in a.data.labels if x not in taps)
    labels = _unique([*a.output, *inputs, *taps])
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
