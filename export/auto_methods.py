"""How the range of each tensor is chosen: by the method whose roundings cost least at the output.

No method is best for all tensors: clipping saves the dark half of one and costs the highlights of
another, and which of the two is seen in the picture no statistic of the tensor alone can tell. So
all tensors start with the recipe's own method; then, one after the other in the order of the graph,
each tries the other three, and keeps what lowers the loss of the whole program in the metric that
loses most (`Simulation.sensitivity`: PSNR-µ and PSNR-ℓ against ground truth). Later tensors are
tried with what earlier ones have chosen, so that roundings that make up for each other are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pockethdr.errors import PocketError
from pockethdr.export.quantize import RANGE_OF, quantized
from pockethdr.export.recipe import METHODS, Recipe
from pockethdr.export.rehearsal import Rehearsal, rehearsal
from pockethdr.export.simulate import SCHEME, Loss
from pockethdr.export.tuned import Tuned
from pockethdr.models.load import Loaded

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
        recipe: with `methods` for the tensors that left the base's method; the base itself where
            the brackets that were not searched on lose no less by them.
        before, after: predicted losses on the brackets of the search.
        unseen_before, unseen_after: on the others.
        tried: programs simulated.
    """

    recipe: Recipe
    before: Loss
    after: Loss
    unseen_before: Loss
    unseen_after: Loss
    tried: int

    @property
    def helped(self) -> bool:
        """Whether the other brackets lose less, too."""
        return self.unseen_after.worst < self.unseen_before.worst


def recipe_by_output(
    loaded: Loaded,
    base: Recipe,
    *,
    brackets: Sequence[Path],
    size: tuple[int, int],
    tuned: Tuned | None = None,
    allow_dynamic: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Chosen:
    """`base` with a method for each tensor, chosen by the error that it causes at the output.

    Args:
        brackets: folders; of those with ground truth every other one is tried on, the rest
            confirms.
        size: of the artifacts; patches are at most 128×128 of it.

    Raises:
        PocketError: `tuned` is given, whose ranges were trained; or as `rehearsal`.
    """
    if tuned is not None:
        raise PocketError(
            f"{tuned.path.name}: weights tuned for INT8 come with ranges that were trained",
            expected="a recipe without tuned weights, to choose ranges for",
            fix="name one, such as --recipe hdr, or leave --method out",
        )
    ready = rehearsal(
        loaded, base, brackets=brackets, size=size, allow_dynamic=allow_dynamic, say=say
    )
    tried = _Trials(ready, base)
    before = tried.loss(base)
    recipe, after = _descended(tried, base, before, say)
    say("confirming on the other brackets")
    unseen = [ready.simulation(r, unseen=True).sensitivity(r) for r in (base, recipe)]
    chosen = Chosen(recipe, before, after, unseen[0], unseen[1], tried.count)
    return chosen if chosen.helped else replace(chosen, recipe=base)


def _descended(
    tried: _Trials, base: Recipe, loss: Loss, say: Callable[[str], None]
) -> tuple[Recipe, Loss]:
    """One pass over the tensors, each keeping the best of its methods."""
    best, units = base, units_of(tried.ready, base)
    for number, unit in enumerate(units, 1):
        say(f"ranges of {unit[0]} ({number}/{len(units)}): µ {loss.mu_db:+.3f} ℓ {loss.l_db:+.3f}")
        for recipe in tried.others(best, unit):
            found = tried.loss(recipe)
            if found.worst < loss.worst - LEAST_GAIN:
                best, loss = recipe, found
    name = f"{base.name}-auto" if best != base else base.name
    return replace(best, name=name), loss


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

    def __init__(self, ready: Rehearsal, base: Recipe) -> None:
        self.ready, self.base, self.count = ready, base, 0
        self._simulation = ready.simulation(base)
        self._ranges = {method: ready.calibration.ranges(method) for method in METHODS}

    def loss(self, recipe: Recipe) -> Loss:
        self.count += 1
        ranges = {name: self._ranges[of][name] for name, of in self._methods(recipe).items()}
        return self._simulation.sensitivity(recipe, ranges)

    def _methods(self, recipe: Recipe) -> dict[str, str]:
        return dict.fromkeys(self.ready.calibration.tensors, recipe.method) | recipe.methods

    def others(self, recipe: Recipe, unit: tuple[str, ...]) -> list[Recipe]:
        """`recipe` with each other method for `unit`, where that gives another range."""
        found, known = [], [self._of(unit, self.base.method)]
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
