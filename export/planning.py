"""Which convolution comes first, what is multiplied where: the plan of one term in normal form.

With X the windows of the input of a dynamic convolution, a term is planned as

    y[O] = post[O] ⊙ Σ_S  P[O, S] · ( core[S] ⊙ Σ_in  Q[I, in] · (pre ⊙ X)[in] ),     I ⊆ S

where Q holds the constants that touch X, P the others, and S are the latent channels (L² for a full
Φ of rank L, L·b for blocks of b). `lowering` emits it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch

from pockethdr.export.algebra import (
    Axis,
    Constant,
    Label,
    Leaf,
    Term,
    Value,
    Window,
    Windows,
    size_of,
)

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
    """How one term is computed, in the letters of the module's equation.

    Attributes:
        data: X, what the first convolution reads.
        pre, core, post: the run-time factors, by where they are multiplied.
        q, p: the constants of the first convolution and of the last.
        inner, latent, output: the channels I, S and O.
        macs: multiply-accumulates for each pixel.
    """

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
        return self.data.window if isinstance(self.data, Windows) else POINTWISE


def roles_of(value: Value) -> Roles:
    """Read batch, rows and columns of a place from the feature maps in its terms."""
    leaves = [leaf for term in value.terms for leaf in term.leaves]
    maps = feature_maps(leaves)
    out, fixed = set(value.labels), {x for t in value.terms for c in t.constants for x in c.labels}
    rows = {label for leaf in maps for label in leaf.axes[-2]}
    columns = {label for leaf in maps for label in leaf.axes[-1]}
    batch = {label for leaf in maps or leaves for label in leaf.axes[0] if len(leaf.axes) > 1}
    for leaf in maps:
        if isinstance(leaf, Windows) and not leaf.axes[0] and len(value.axes[1]) > 1:
            batch |= set(leaf.channels[:1])  # batch folded into the groups of a convolution
    return Roles(frozenset((batch & out) - fixed), frozenset(rows), frozenset(columns))


def feature_maps(leaves: Sequence[Leaf]) -> list[Leaf]:
    """The leaves with pixels; beside the windows of a convolution, no other is taken for one."""
    windows = [leaf for leaf in leaves if isinstance(leaf, Windows)]
    return [*windows] or [leaf for leaf in leaves if leaf.spatial]


def planned(term: Term, output: Axis, roles: Roles) -> Plan:
    """The cheapest plan of a term with at least one leaf."""
    windows = [leaf for leaf in term.leaves if isinstance(leaf, Windows)]
    maps = [leaf for leaf in term.leaves if roles.is_map(leaf)]
    candidates = windows or maps or list(term.leaves)
    plans = (_planned(term, data, output, roles) for data in candidates)
    return min(plans, key=lambda plan: plan.cost)


def _planned(term: Term, data: Leaf, output: Axis, roles: Roles) -> Plan:
    """The plan whose first convolution reads `data`."""
    pre, core, post = _run_time_factors(term, data, output, roles)
    own, out = set(roles.channels(data.labels)), set(output)
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
        inner = unique(label for label in roles.channels(free) if label in kept)
        latent = _latent_order(inner, core, roles, own & set(inner) & out)
        inner = tuple(label for label in latent if label in set(inner))
    plan = Plan(data, pre, core, post, q, p, inner, latent, output)
    return replace(plan, macs=_macs(plan, roles))


def _run_time_factors(
    term: Term, data: Leaf, output: Axis, roles: Roles
) -> tuple[tuple[Leaf, ...], tuple[Leaf, ...], tuple[Leaf, ...]]:
    """The leaves beside `data`, as pre, core and post: what can scale the output does."""
    others = list(term.leaves)
    others.remove(data)
    own = set(roles.channels(data.labels))
    inputs = own - set(data.taps) if isinstance(data, Windows) else set[Label]()
    pre, core, post = list[Leaf](), list[Leaf](), list[Leaf]()
    for leaf in others:
        channels = set(roles.channels(leaf.labels))
        if channels <= set(output):
            post.append(leaf)
        elif channels <= inputs and not roles.is_map(leaf):
            pre.append(leaf)
        else:
            core.append(leaf)
    return tuple(pre), tuple(core), tuple(post)


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
    return unique(sorted(rest, key=lambda label: label not in groups))


def _macs(plan: Plan, roles: Roles) -> float:
    """Multiply-accumulates for each pixel, as `lowering` emits them."""
    taps = plan.data.taps if isinstance(plan.data, Windows) else ()
    inputs = tuple(x for x in roles.channels(plan.data.labels) if x not in taps)
    macs = convolution_macs(inputs, plan.inner) * size_of(taps)
    macs += _repetition_macs(plan, roles, pixels=True)
    if not plan.core:
        return macs
    macs += _repeated(plan.inner, plan.latent)
    products = size_of(plan.latent) * len(plan.core)
    return macs + products + convolution_macs(plan.latent, plan.output)


def stored(plan: Plan, roles: Roles) -> float:
    """How many weights the plan of a place without pixels takes."""
    return plan.macs + _repetition_macs(plan, roles, pixels=False)


def _repetition_macs(plan: Plan, roles: Roles, *, pixels: bool) -> int:
    """Those of the 0/1 convolutions that repeat the run-time factors with, or without, pixels."""
    places = [(leaf, plan.latent) for leaf in plan.core] + [(x, plan.output) for x in plan.post]
    return sum(
        _repeated(roles.channels(leaf.labels), wide)
        for leaf, wide in places
        if roles.is_map(leaf) == pixels
    )


def _repeated(channels: Axis, wide: Axis) -> int:
    """Concatenated with itself when it ends the wider one, which multiplies nothing."""
    return 0 if ends_in(wide, channels) else convolution_macs(channels, wide)


def convolution_macs(source: Axis, output: Axis) -> int:
    """Multiply-accumulates of a pointwise convolution, for each pixel."""
    return size_of(output) * size_of(source[len(groups_of(source, output)) :])


def ends_in(wide: Axis, channels: Axis) -> bool:
    """Whether `wide` is `channels` concatenated with itself."""
    return wide[len(wide) - len(channels) :] == channels


def groups_of(source: Axis, output: Axis) -> Axis:
    """Labels that lead both: the groups of a convolution from one to the other."""
    length = 0
    while length < min(len(source), len(output)) and source[length] is output[length]:
        length += 1
    return source[:length]


def unique(labels: Iterable[Label]) -> Axis:
    return tuple(dict.fromkeys(labels))
