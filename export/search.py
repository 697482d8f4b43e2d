"""The smallest part of a network to keep in float so that INT8 loses at most so many decibels.

Every group of operations is quantised alone once, which gives its sensitivity. Then, starting from
all integer, the group goes back to float that loses most for the latency it costs, until PSNR-µ and
PSNR-ℓ both hold; and what turns out not to have been needed becomes integer again, the costliest
first. Each step is a simulation of the whole recipe, not a sum of predictions. Brackets that the
search did not see decide whether the target is met.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pockethdr.export.groups import Group
from pockethdr.export.recipe import Recipe
from pockethdr.export.simulate import Loss, Simulation
from pockethdr.files import write_bytes

#: Share of the target that the search aims at: brackets it has not seen lose a little more.
AIM = 0.8


@dataclass(frozen=True)
class Reverted:
    """A group that went back to float, and why."""

    group: str
    nodes: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        recipe: the best found.
        met: the brackets that the search did not see lose at most `max_loss`.
        before, after: losses on the brackets of the search, all integer and with `recipe`.
        confirmed: the loss on the others.
        sensitivity: of each group alone, in graph order.
        tried: recipes simulated.
        searched_on, confirmed_on: names of the brackets.
    """

    recipe: Recipe
    met: bool
    max_loss: float
    before: Loss
    after: Loss
    confirmed: Loss
    reverted: tuple[Reverted, ...]
    sensitivity: Mapping[str, Loss]
    tried: int
    searched_on: tuple[str, ...]
    confirmed_on: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Memory:
    """Losses already simulated, in a file; of another key than `key` they are forgotten."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.losses: dict[str, list[float]] = {}
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["key"] == key:
                self.losses = kept["losses"]
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def get(self, name: str, compute: Callable[[], Loss]) -> Loss:
        """The loss called `name`, simulated only if it is not remembered."""
        if name not in self.losses:
            found = compute()
            self.losses[name] = [found.mu_db, found.l_db]
            text = json.dumps({"key": self.key, "losses": self.losses}, indent=1, sort_keys=True)
            write_bytes(self.path, text.encode(), overwrite=True)
        return Loss(*self.losses[name])


def search(
    simulation: Simulation,
    unseen: Simulation,
    groups: Sequence[Group],
    base: Recipe,
    *,
    max_loss: float,
    memory: Memory,
    say: Callable[[str], None] = lambda _: None,
) -> Found:
    """The recipe that keeps least in float and loses at most `max_loss` dB in both metrics.

    Args:
        simulation, unseen: the same program on the brackets of the search, and on others.
        groups: what may go back to float.
        base: what is integer at most.
    """
    tried = _Search(simulation, groups, base, max_loss * AIM, memory, say)
    before = tried.loss(frozenset())
    sensitivity = tried.sensitivities()
    kept = tried.pruned(tried.greedy(sensitivity))
    found = replace(tried.recipe(kept), name=f"{base.name}-{max_loss:g}dB")
    recipe = found if kept else base
    say("confirming on the other brackets")
    confirmed = memory.get(f"unseen {_name(kept)}", lambda: unseen.loss(recipe))
    reverted = tuple(
        Reverted(g.name, g.nodes, _why(sensitivity[g.name], g)) for g in groups if g.name in kept
    )
    return Found(
        recipe=recipe,
        met=confirmed.within(max_loss),
        max_loss=max_loss,
        before=before,
        after=tried.loss(kept),
        confirmed=confirmed,
        reverted=reverted,
        sensitivity=sensitivity,
        tried=tried.count,
        searched_on=tuple(scene.name for scene in simulation.scenes),
        confirmed_on=tuple(scene.name for scene in unseen.scenes),
    )


class _Search:
    """Recipes named by the groups that they keep in float, each simulated once.

    Args:
        aim: the decibels that may be lost on the brackets of the search.
    """

    def __init__(
        self,
        simulation: Simulation,
        groups: Sequence[Group],
        base: Recipe,
        aim: float,
        memory: Memory,
        say: Callable[[str], None],
    ) -> None:
        self.simulation, self.groups, self.base = simulation, groups, base
        self.aim, self.memory, self.say = aim, memory, say
        self.by_name = {group.name: group for group in groups}
        self.count = 0

    def recipe(self, floats: frozenset[str]) -> Recipe:
        """The base with these groups in float."""
        nodes = tuple(n for g in self.groups if g.name in floats for n in g.nodes)
        return replace(self.base, float_nodes=(*self.base.float_nodes, *nodes))

    def loss(self, floats: frozenset[str]) -> Loss:
        def simulate() -> Loss:
            self.count += 1
            return self.simulation.loss(self.recipe(floats))

        return self.memory.get(_name(floats), simulate)

    def sensitivities(self) -> dict[str, Loss]:
        """Each group alone on integers."""
        found = {}
        for number, group in enumerate(self.groups, 1):
            self.say(f"sensitivity of {group.name} ({number}/{len(self.groups)})")
            others = self.recipe(frozenset(self.by_name) - {group.name})
            simulate = partial(self.simulation.sensitivity, others)
            found[group.name] = self.memory.get(f"alone {group.name}", simulate)
        return found

    def greedy(self, sensitivity: Mapping[str, Loss]) -> frozenset[str]:
        """Groups to keep in float; those of the best loss seen where none meets the aim."""
        floats: frozenset[str] = frozenset()
        loss = self.loss(floats)
        best = (loss.worst, floats)
        while not loss.within(self.aim) and len(floats) < len(self.groups):
            floats |= {self._next(floats, loss, sensitivity)}
            loss = self.loss(floats)
            self.say(f"{len(floats)} groups in float: µ {loss.mu_db:+.2f}, ℓ {loss.l_db:+.2f} dB")
            best = min(best, (loss.worst, floats), key=lambda entry: entry[0])
        return best[1]

    def _next(self, floats: frozenset[str], loss: Loss, sensitivity: Mapping[str, Loss]) -> str:
        """The group that costs most decibels, of those still lost, for its share of latency."""

        def worth(name: str) -> float:
            alone = sensitivity[name]
            lost = -alone.mu_db * (-loss.mu_db > self.aim) - alone.l_db * (-loss.l_db > self.aim)
            return lost / self.by_name[name].cost

        return max((n for n in self.by_name if n not in floats), key=worth)

    def pruned(self, floats: frozenset[str]) -> frozenset[str]:
        """Without the groups that need not be float after all, the costliest first."""
        bound = max(self.aim, self.loss(floats).worst)
        for name in sorted(floats, key=lambda name: -self.by_name[name].cost):
            without = floats - {name}
            if self.loss(without).within(bound):
                self.say(f"{name} need not be float")
                floats = without
        return floats


def _name(floats: frozenset[str]) -> str:
    return "float: " + ", ".join(sorted(floats))


def _why(alone: Loss, group: Group) -> str:
    return (
        f"alone on integers it costs {-alone.mu_db:.3f} dB PSNR-µ and {-alone.l_db:.3f} dB PSNR-ℓ, "
        f"for {group.cost / 1e6:.1f} million multiplications' time"
    )
