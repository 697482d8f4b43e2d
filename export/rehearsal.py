"""What recipes are tried on before anything is exported: a program, its calibration, and scenes.

Every other bracket is searched on; the rest, which a search never sees, confirms what it found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import fx

from pockethdr.brackets.read import read_bracket
from pockethdr.calibration.calibration import Calibration
from pockethdr.calibration.observe import calibrate
from pockethdr.errors import BracketError
from pockethdr.export.identity import network_sha256
from pockethdr.export.integers import prepared, ranges_for
from pockethdr.export.provenance import code_sha256
from pockethdr.export.recipe import Recipe
from pockethdr.export.simulate import Scene, Simulation, scene_of
from pockethdr.export.static import static_program
from pockethdr.export.tuned import Tuned
from pockethdr.files import sha256_of
from pockethdr.models.load import Loaded

#: Patches are no larger than this: many small ones show more than few large ones.
SIDE = 128


@dataclass(frozen=True)
class Rehearsal:
    """A network made ready for trying recipes on.

    Attributes:
        program: the one that becomes INT8.
        calibration: over the brackets of the search alone.
        seen, unseen: the scenes of the search, and those that confirm.
        key: the hash of all that a loss depends on, beside the recipe.
    """

    program: fx.GraphModule
    calibration: Calibration
    seen: tuple[Scene, ...]
    unseen: tuple[Scene, ...]
    tuned: Tuned | None
    key: str

    def simulation(self, recipe: Recipe, *, unseen: bool = False) -> Simulation:
        """With the ranges that `recipe` chooses, or that came with tuned weights."""
        ranges = ranges_for(self.program, self.calibration, recipe, self.tuned)
        return Simulation(self.program, ranges, self.unseen if unseen else self.seen)


def rehearsal(
    loaded: Loaded,
    base: Recipe,
    *,
    brackets: Sequence[Path],
    size: tuple[int, int],
    tuned: Tuned | None = None,
    patches: int = 4,
    allow_dynamic: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Rehearsal:
    """Trace, rewrite and calibrate `loaded`, on patches of at most 128×128 of `size`.

    Args:
        base: its input gains are written into the program.
        brackets: folders; those without ground truth are left out.
        patches: of each bracket.

    Raises:
        BracketError: fewer than two brackets have ground truth.
        PocketError: the network or a bracket cannot be used.
    """
    tile = (min(size[0], SIDE), min(size[1], SIDE))
    known = _scenes(loaded, brackets, tile, patches, say)
    say("tracing and rewriting")
    static = static_program(loaded, size=tile, allow_dynamic=allow_dynamic)
    program = prepared(static.program, base, tuned)
    seen = known[::2]
    say(f"calibrating on {', '.join(scene.name for _, scene in seen)}")
    folders = [folder for folder, _ in seen]
    read = partial(read_bracket, domain=loaded.domain, stream=True)
    return Rehearsal(
        program=program,
        calibration=calibrate(
            program, folders, seed=0, tile=tile, patches_per_bracket=patches, read=read
        ),
        seen=tuple(scene for _, scene in seen),
        unseen=tuple(scene for _, scene in known[1::2]),
        tuned=tuned,
        key=_key(loaded, base, tuned, brackets, tile, patches),
    )


def _scenes(
    loaded: Loaded,
    folders: Sequence[Path],
    tile: tuple[int, int],
    patches: int,
    say: Callable[[str], None],
) -> list[tuple[Path, Scene]]:
    """Patches of each bracket that has ground truth, which are all of it that stays in memory."""
    if len(folders) < 2:
        raise _too_few(f"{len(folders)} bracket{'s' * (len(folders) != 1)}")
    known = []
    for folder in sorted(folders):
        bracket = read_bracket(folder, domain=loaded.domain)
        if bracket.ground_truth is not None:
            say(f"the float network on {bracket.name}")
            known.append((folder, scene_of(bracket, loaded.module, tile=tile, patches=patches)))
    if len(known) < 2:
        raise _too_few(f"{len(known)} of {len(folders)} brackets have ground truth")
    return known


def _too_few(found: str) -> BracketError:
    return BracketError(
        found,
        expected="at least two with ground truth: one to search on, and one to confirm",
        fix="add some, for instance of `pockethdr simulate`, or do without the search",
    )


def _key(
    loaded: Loaded,
    base: Recipe,
    tuned: Tuned | None,
    brackets: Sequence[Path],
    tile: tuple[int, int],
    patches: int,
) -> str:
    parts = {
        "network": network_sha256(loaded, tile),
        "base": replace(base, name="").to_json(),
        "tuned": tuned.to_json() if tuned else None,
        "brackets": [sha256_of(folder) for folder in sorted(brackets)],
        "tile": [*tile, patches],
        "code": code_sha256(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
