"""Convolutions whose kernels are computed from activations, re-expressed with constant weights.

    W(F') = W0 + P Φ(F') Qᵀ   (the paper's kernel, for each image or each pixel)
    W(x)  = Σ_k α_k(x) W_k    (CondConv, Dynamic Convolution)
    W(x)  = Λ_out(x) W0 Λ_in(x)   (modulated convolution, with or without demodulation)

and any sum or product of these, however the network wrote it: the pass reads the algebra of the
graph (`algebra`, `expand`), not the names of its modules. Convolution is linear in its kernel, so

    W * x = W0 * x + P (Φ · (Qᵀ * x))

and each term becomes constant convolutions around a product with Φ (`lowering`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx

from pockethdr.export import algebra
from pockethdr.export.algebra import NotAligned, Value, Windows
from pockethdr.export.aten import Conv, arguments, aten, is_conv, is_floating, shape
from pockethdr.export.constants import Constants
from pockethdr.export.expand import Expansion, window_of
from pockethdr.export.expand_rules import NONLINEAR, RULES
from pockethdr.export.lowering import Lowering
from pockethdr.export.planning import (
    MAX_LATENT,
    Plan,
    Roles,
    feature_maps,
    planned,
    roles_of,
    stored,
)
from pockethdr.export.program import op_name
from pockethdr.export.rewrite import Replacement

_CONVOLUTIONS = frozenset(
    getattr(packet, overload)
    for packet in (
        aten.conv1d,
        aten.conv2d,
        aten.conv3d,
        aten.convolution,
        aten.conv_transpose1d,
        aten.conv_transpose2d,
        aten.conv_transpose3d,
    )
    for overload in packet.overloads()
)
_PRODUCTS = frozenset(
    {
        aten.matmul.default,
        aten.bmm.default,
        aten.mm.default,
        aten.einsum.default,
        aten.linear.default,
        aten.baddbmm.default,
        aten.addmm.default,
    }
)
_SUMS = frozenset({aten.sum.dim_IntList, aten.mean.dim})

#: How many operators deep a kernel's making is followed.
MAX_LEVELS = 12

#: A product of activations wider than this is cheaper as the matrix product that it is.
MAX_PRODUCT_LATENT = 256


@dataclass(frozen=True)
class Solution:
    """A place in normal form and the plan of each term that varies."""

    value: Value
    roles: Roles
    plans: tuple[Plan, ...]
    opened: frozenset[fx.Node]

    @property
    def cost(self) -> float:
        return sum(plan.cost for plan in self.plans)


class LowRank:
    """The rewrite of every dynamic convolution of a program."""

    name = "lowrank"

    def __init__(self) -> None:
        self._solutions = dict[fx.Node, Solution]()

    def pattern(self, program: fx.GraphModule) -> Iterator[fx.Node]:
        """Backwards: P behind a product with Φ takes that product in, which then is no place."""
        constants = Constants(program)
        for node in reversed(program.graph.nodes):
            if node.op == "call_function" and _is_place(node, constants):
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        solved = solve(node, program)
        if isinstance(solved, str):
            return solved
        latent = max(algebra.size_of(plan.latent) for plan in solved.plans)
        if node.target in _PRODUCTS and latent > MAX_PRODUCT_LATENT:
            return f"left as a matrix product: {latent:,} latent channels would cost more"
        if node.target in _SUMS and (reason := _stores_too_much(node, solved)):
            return reason
        self._solutions[node] = solved
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        solution = self._solutions.pop(node)
        lowering = Lowering(program, solution.roles)
        new = lowering.emitted(solution.value, solution.plans, like=node)
        counts = [f"{n:,} MAC per {scope}" for scope, n in sorted(lowering.macs.items())[::-1]]
        cost = ", ".join(counts) or "no MAC"
        return Replacement(new, f"{_described(solution)}; {cost}")


def dynamic_convolutions(program: fx.GraphModule) -> list[fx.Node]:
    """The convolutions of `program` whose kernel still depends on an input, or on chance."""
    constants = Constants(program)
    return [node for node in program.graph.nodes if _has_dynamic_kernel(node, constants)]


# ---- finding -------------------------------------------------------------------------------------


def _is_place(node: fx.Node, constants: Constants) -> bool:
    if _has_dynamic_kernel(node, constants):
        return True
    if constants.value(node) is not None:
        return False
    if node.target in _SUMS:
        return _sums_kernel(node) or _reads_windows(node, constants)
    return node.target in _PRODUCTS and _mixes_channels(node, constants)


def _has_dynamic_kernel(node: fx.Node, constants: Constants) -> bool:
    if node.op != "call_function" or node.target not in _CONVOLUTIONS:
        return False
    return constants.value(arguments(node)["weight"]) is None


def _mixes_channels(node: fx.Node, constants: Constants) -> bool:
    """Whether two run-time tensors meet in a sum over channels, at every pixel of a feature map.

    A sum over pixels (attention, pooling) and a product of two kernels are something else.
    """
    return any(_is_mixture(value) for _, value in _openings(node, constants))


def _sums_kernel(node: fx.Node) -> bool:
    """Whether a sum runs over something as large as a batch of kernels, as demodulation does."""
    return node.target in _SUMS and len(shape(node.all_input_nodes[0])) > 4


def _reads_windows(node: fx.Node, constants: Constants) -> bool:
    """Whether a sum is a convolution written out: a product with unfolded windows."""
    return any(
        isinstance(leaf, Windows)
        for _, value in _openings(node, constants)
        if _is_mixture(value)
        for term in value.terms
        for leaf in term.leaves
    )


def _is_mixture(value: Value) -> bool:
    out = set(value.labels)
    for term in value.terms:
        maps = feature_maps(term.leaves)
        if not maps or len({leaf.spatial for leaf in maps}) > 1 or not maps[0].spatial <= out:
            return False
    return any(len(term.leaves) > 1 for term in value.terms)


# ---- solving -------------------------------------------------------------------------------------


def solve(node: fx.Node, program: fx.GraphModule) -> Solution | str:
    """The cheapest static form found for a place, or the reason why there is none.

    Leaves are opened level by level, the cheapest level is taken, and then single leaves are opened
    or closed for as long as that makes it cheaper.
    """
    if node.target in _CONVOLUTIONS and (reason := _unsupported(node)):
        return reason
    constants = Constants(program)
    kernel = node.target in _CONVOLUTIONS or _sums_kernel(node)
    attempts = [
        _solved(value, opened)
        for opened, value in _openings(node, constants)
        if kernel or _is_mixture(value)
    ]
    solutions = [attempt for attempt in attempts if isinstance(attempt, Solution)]
    if not solutions:
        return next((a for a in attempts if isinstance(a, str)), "its kernel does not factor")
    best = _refined(node, constants, min(solutions, key=lambda solution: solution.cost))
    return best if math.isfinite(best.cost) else _too_wide(solutions[-1])  # the furthest opened


def _openings(node: fx.Node, constants: Constants) -> Iterator[tuple[frozenset[fx.Node], Value]]:
    """The place in normal form with more and more of the graph behind it opened."""
    opened = frozenset({node})
    for _ in range(MAX_LEVELS):
        expansion = Expansion(constants, opened)
        with contextlib.suppress(NotAligned):
            yield opened, _value(node, expansion)
        if not expansion.closed:
            return
        opened |= set(expansion.closed)


def _refined(node: fx.Node, constants: Constants, best: Solution) -> Solution:
    """Open or close whichever node saves most, until none does."""
    while True:
        expansion = Expansion(constants, best.opened)
        _value(node, expansion)
        toggled = [best.opened ^ {other} for other in (*expansion.closed, *best.opened - {node})]
        trials = [_solved_with(node, constants, opened) for opened in toggled]
        better = [t for t in trials if isinstance(t, Solution) and t.cost < best.cost]
        if any(plan.core for plan in best.plans):  # never trade the product with Φ for its result
            better = [t for t in better if any(plan.core for plan in t.plans)]
        if not better:
            return best
        best = min(better, key=lambda solution: solution.cost)


def _solved_with(node: fx.Node, constants: Constants, opened: frozenset[fx.Node]) -> Solution | str:
    try:
        return _solved(_value(node, Expansion(constants, opened)), opened)
    except NotAligned as error:
        return str(error)


def _solved(value: Value, opened: frozenset[fx.Node]) -> Solution | str:
    roles = roles_of(value)
    if reason := _misplaced(value, roles):
        return reason
    output = roles.channels(value.labels)
    plans = tuple(planned(term, output, roles) for term in value.terms if term.leaves)
    return Solution(value, roles, plans, opened)


def _value(node: fx.Node, expansion: Expansion) -> Value:
    if node.target not in _CONVOLUTIONS:
        value = expansion.of(node)
        if any(leaf.node is node for term in value.terms for leaf in term.leaves):
            raise NotAligned("it is not linear in what it reads")
        return value
    conv = Conv(node)
    batch, channels = shape(conv.input)[:2]
    groups = conv.groups
    windows = algebra.windows(conv.input, window_of(conv), shape(node)[2:])
    windows = algebra.reshape(
        windows,
        [batch, groups, channels // groups, *conv.kernel, *shape(node)[2:]],
    )
    kernel = expansion.of(conv.weight)
    kernel = algebra.reshape(kernel, [groups, conv.out_channels // groups, *kernel.shape[1:]])
    value = algebra.einsum([windows, kernel], ["ngiklhw", "goikl"], "ngohw")
    value = algebra.reshape(value, shape(node))
    if conv.bias is None:
        return value
    bias = algebra.reshape(expansion.of(conv.bias), [1, conv.out_channels, 1, 1])
    return algebra.add(value, bias)


# ---- reasons -------------------------------------------------------------------------------------


def _unsupported(node: fx.Node) -> str | None:
    if not is_conv(node):
        return f"{op_name(node)} with a run-time kernel: only two-dimensional ones are rewritten"
    if Conv(node).transposed:
        return "a transposed convolution with a run-time kernel is not rewritten"
    return None


def _misplaced(value: Value, roles: Roles) -> str | None:
    """Pixels must pass through untouched, and axes must come in runs of one kind."""
    spatial, out = roles.rows | roles.columns, set(value.labels)
    for term in value.terms:
        indices = len(term.labels) + len(out)  # a label on both sides of a convolution is two
        if indices > algebra.MAX_LABELS:
            return f"its kernel takes {indices} indices, at most {algebra.MAX_LABELS}"
        fixed = {label for constant in term.constants for label in constant.labels}
        for leaf in term.leaves:
            if not is_floating(leaf.node):
                return f"`{leaf.node}` is of integers or truth values"
            if roles.is_map(leaf) and not spatial & set(leaf.labels) <= out - fixed:
                return f"`{leaf.node}` is summed over pixels, which no convolution does"
    runs = [roles.of(label) for label in value.labels]
    kinds = [kind for i, kind in enumerate(runs) if i == 0 or runs[i - 1] != kind]
    if len(set(kinds)) != len(kinds):
        return "its axes interleave channels and pixels"
    return None


def _stores_too_much(node: fx.Node, solution: Solution) -> str | None:
    weights = sum(stored(plan, solution.roles) for plan in solution.plans)
    read = math.prod(shape(node.all_input_nodes[0]))
    if weights > 2 * read:
        return f"left as a sum: of {read:,} values it would take {weights:,} weights"
    return None


def _too_wide(solution: Solution) -> str:
    plan = next(plan for plan in solution.plans if not math.isfinite(plan.cost))
    widest = max(plan.core or (plan.data,), key=lambda leaf: algebra.size_of(leaf.labels))
    why = f"`{widest.node}` ({op_name(widest.node)}) {_why_whole(widest.node)}"
    return (
        f"{why} and sets the kernel freely: that would take {algebra.size_of(plan.latent):,} "
        f"latent channels, at most {MAX_LATENT:,}"
    )


def _why_whole(node: fx.Node) -> str:
    if node.target in RULES:
        return "is used in a way that has no rule (einsum or matmul have one)"
    if node.op != "call_function" or node.target in NONLINEAR or is_conv(node):
        return "is not linear"
    return "has no rule (einsum or matmul have one)"


def _described(solution: Solution) -> str:
    parts = []
    for plan in solution.plans:
        factors = [f"`{leaf.node}`" for leaf in (*plan.pre, *plan.core, *plan.post)]
        scope = "pixel" if any(map(solution.roles.is_map, (*plan.core, *plan.post))) else "image"
        width = f", latent {algebra.size_of(plan.latent)}" if plan.core else ""
        parts.append(f"× {' '.join(factors)} per {scope}{width}" if factors else "constant")
    return " + ".join(parts)
