"""A target in decibels becomes a recipe: brackets in, the search, and what it found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import fx

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.read import read_bracket
from pockethdr.calibration.observe import calibrate
from pockethdr.errors import BracketError
from pockethdr.export.coding import with_input_gains
from pockethdr.export.groups import groups_of
from pockethdr.export.manifest import sha256_of
from pockethdr.export.pipeline import code_sha256
from pockethdr.export.recipe import WIDEST_RECIPE, Recipe, named_recipe
from pockethdr.export.search import Found, Memory, search
from pockethdr.export.simulate import SCHEME, Simulation, scene_of
from pockethdr.export.static import static_program
from pockethdr.export.tuned import Tuned, state_sha256
from pockethdr.models.load import Loaded

#: Patches of the search are no larger than this: many small ones show more than few large ones.
SIDE = 128


def recipe_for_loss(
    loaded: Loaded,
    *,
    max_loss: float,
    brackets: Sequence[Path],
    size: tuple[int, int],
    cache: Path,
    base: Recipe | None = None,
    tuned: Tuned | None = None,
    patches: int = 4,
    allow_dynamic: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Found:
    """Search the recipe that loses at most `max_loss` dB in PSNR-µ and in PSNR-ℓ.

    Args:
        brackets: folders; of those with ground truth every other one is searched on, the rest
            confirms.
        size: of the artifacts; patches are at most 128×128 of it.
        cache: file that keeps what was simulated.
        base: what is integer at most; default that of `tuned`, else all but the last convolution.
        patches: of each bracket.

    Raises:
        BracketError: fewer than two brackets have ground truth.
        PocketError: the network or a bracket cannot be used.
    """
    base = base or (tuned.recipe if tuned else named_recipe(WIDEST_RECIPE))
    tile = (min(size[0], SIDE), min(size[1], SIDE))
    known = _with_truth(brackets, loaded.domain)
    say("tracing and rewriting")
    program = _program(loaded, tile, base, tuned, allow_dynamic)
    seen, unseen = known[::2], known[1::2]
    say(f"calibrating on {', '.join(bracket.name for bracket in seen)}")
    counted = calibrate(program, seen, seed=0, tile=tile, patches_per_bracket=patches)
    chosen = counted.ranges(base.method).items()
    ranges = {name: (found.low, found.high) for name, found in chosen}

    def simulation(part: Sequence[Bracket]) -> Simulation:
        scenes = (scene_of(b, loaded.module, tile=tile, patches=patches) for b in part)
        return Simulation(program, {**ranges, **(tuned.ranges if tuned else {})}, tuple(scenes))

    return search(
        simulation(seen),
        simulation(unseen),
        groups_of(program, base, SCHEME),
        base,
        max_loss=max_loss,
        memory=Memory(cache, _key(loaded, base, tuned, brackets, tile, patches)),
        say=say,
    )


def _with_truth(folders: Sequence[Path], domain: str) -> list[Bracket]:
    found = [read_bracket(folder, domain=domain) for folder in sorted(folders)]
    known = [bracket for bracket in found if bracket.ground_truth is not None]
    if len(known) < 2:
        raise BracketError(
            f"{len(known)} of {len(found)} brackets have ground truth",
            expected="at least two: one to search a recipe on, and one to confirm it",
            fix="add some, for instance of `pockethdr simulate`, or leave --max-loss out",
        )
    return known


def _program(
    loaded: Loaded,
    tile: tuple[int, int],
    base: Recipe,
    tuned: Tuned | None,
    allow_dynamic: bool,
) -> fx.GraphModule:
    program = static_program(loaded, size=tile, allow_dynamic=allow_dynamic).program
    return tuned.program(program) if tuned else with_input_gains(program, base.input_gains)


def _key(
    loaded: Loaded,
    base: Recipe,
    tuned: Tuned | None,
    brackets: Sequence[Path],
    tile: tuple[int, int],
    patches: int,
) -> str:
    parts = {
        "state": state_sha256(loaded),
        "base": replace(base, name="").to_json(),
        "tuned": tuned.to_json() if tuned else None,
        "brackets": [sha256_of(folder) for folder in sorted(brackets)],
        "tile": [*tile, patches],
        "code": code_sha256(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
