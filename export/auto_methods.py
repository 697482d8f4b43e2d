"""How the range of each tensor is chosen: by the method whose roundings cost least at the output.

No method is best for all tensors: clipping saves the dark half of one and costs the highlights of
another, and which of the two is seen in the picture no statistic of the tensor alone can tell. So
all tensors start with the method that does best for all alike; then, one after the other in graph
order, each tries the others, and keeps what lowers the loss of the whole program in the metric that
loses most (`Simulation.sensitivity`: PSNR-µ and PSNR-ℓ against ground truth). Later tensors are
tried with what earlier ones have chosen, so that roundings that make up for each other are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pockethdr.errors import PocketError
from pockethdr.export.placement import handed_on_below_zero
from pockethdr.export.quantize import RANGE_OF, quantized
from pockethdr.export.recipe import METHODS, Recipe
from pockethdr.export.rehearsal import Rehearsal
from pockethdr.export.simulate import SCHEME, Loss, Simulation

#: A choice that gains fewer decibels than this follows the noise of its patches.
LEAST_GAIN = 1e-3
#: Ranges whose ends differ by less than this share of the width are not tried: much less than the
#: methods differ by where they matter.
_ALIKE = 0.02

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Chosen:
    """What `recipe_by_output` found.

    Attributes:
        recipe: the best method for all, and `methods` for the tensors that left it; the base itself
            where the brackets that were not searched on lose no less by them.
        before, after: predicted losses on the brackets of the search.
        unseen_before, unseen_after: on the others.
    """

    recipe: Recipe
    before: Loss
    after: Loss
    unseen_before: Loss
    unseen_after: Loss

    @property
    def helped(self) -> bool:
        """Whether the other brackets lose less, too."""
        return self.unseen_after.worst < self.unseen_before.worst


def recipe_by_output(
    ready: Rehearsal, base: Recipe, *, say: Callable[[str], None] = lambda _: None
) -> Chosen:
    """`base` with a method for each tensor, chosen by the error that it causes at the output.

    Raises:
        PocketError: weights were tuned for INT8, whose ranges were trained.
    """
    if ready.tuned is not None:
        raise PocketError(
            f"{ready.tuned.path.name}: weights tuned for INT8 come with ranges that were trained",
            expected="a recipe without tuned weights, to choose ranges for",
            fix="name one, such as --recipe hdr, or leave --method out",
        )
    tried = _Trials(ready)
    before = tried.loss(base)
    alike = [replace(base, method=method, methods={}) for method in METHODS]
    losses = [tried.loss(recipe) for recipe in alike]
    start, loss = min(
        [(base, before), *zip(alike, losses, strict=True)], key=lambda pair: pair[1].worst
    )
    recipe, after = _descended(tried, start, loss, say)
    recipe = replace(recipe, name=f"{base.name}-auto")
    say("confirming on the other brackets")
    unseen = [ready.simulation(r, unseen=True).sensitivity(r) for r in (base, recipe)]
    chosen = Chosen(recipe, before, after, *unseen)
    return chosen if chosen.helped else replace(chosen, recipe=base)


def _descended(
    tried: _Trials, start: Recipe, loss: Loss, say: Callable[[str], None]
) -> tuple[Recipe, Loss]:
    """One pass over the tensors, each keeping the best of its methods."""
    best, units = start, units_of(tried.ready, start)
    for number, unit in enumerate(units, 1):
        say(f"ranges of {unit[0]} ({number}/{len(units)}): µ {loss.mu_db:+.3f} ℓ {loss.l_db:+.3f}")
        for recipe in tried.others(best, unit):
            found = tried.loss(recipe)
            if found.worst < loss.worst - LEAST_GAIN:
                best, loss = recipe, found
    return best, loss


def units_of(ready: Rehearsal, recipe: Recipe) -> list[tuple[str, ...]]:
    """The tensors that `recipe` rounds, in graph order; those that share a range come together."""
    program = quantized(ready.program, ready.simulation(recipe).ranges, recipe, SCHEME).program
    order = {node.name: index for index, node in enumerate(ready.program.graph.nodes)}
    found = {
        tuple(sorted(names & set(ready.calibration.tensors), key=order.__getitem__))
        for node in program.graph.nodes
        for names in [node.meta.get(RANGE_OF, frozenset())]
    }
    return sorted((unit for unit in found if unit), key=lambda unit: [order[n] for n in unit])


class _Trials:
    """Recipes tried on the brackets of the search."""

    def __init__(self, ready: Rehearsal) -> None:
        self.ready = ready
        self._simulation = Simulation(ready.program, {}, ready.seen)
        below = handed_on_below_zero(ready.program)
        self._ranges = {m: ready.calibration.ranges(m, below=below) for m in METHODS}

    def loss(self, recipe: Recipe) -> Loss:
        ranges = {name: self._ranges[of][name] for name, of in self._methods(recipe).items()}
        return self._simulation.sensitivity(recipe, ranges)

    def _methods(self, recipe: Recipe) -> dict[str, str]:
        return dict.fromkeys(self.ready.calibration.tensors, recipe.method) | recipe.methods

    def others(self, recipe: Recipe, unit: tuple[str, ...]) -> list[Recipe]:
        """`recipe` with each other method for `unit`, where that gives another range."""
        found, known = [], [self._of(unit, recipe.methods.get(unit[0], recipe.method))]
        for method in METHODS:
            ranges = self._of(unit, method)
            if not any(_alike(ranges, other) for other in known):
                known.append(ranges)
                methods = {**recipe.methods, **dict.fromkeys(unit, method)}
                found.append(replace(recipe, methods=methods))
        return found

    def _of(self, unit: tuple[str, ...], method: str) -> Ranges:
        return {name: self._ranges[method][name] for name in unit}


def _alike(first: Ranges, second: Ranges) -> bool:
    return all(
        abs(a - b) <= _ALIKE * (high - low)
        for name, (low, high) in first.items()
        for a, b in zip((low, high), second[name], strict=True)
    )
