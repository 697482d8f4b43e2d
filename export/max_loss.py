"""A target in decibels becomes a recipe: brackets in, the search, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pockethdr.export.groups import groups_of
from pockethdr.export.recipe import WIDEST_RECIPE, Recipe, named_recipe
from pockethdr.export.rehearsal import rehearsal
from pockethdr.export.search import Found, Memory, search
from pockethdr.export.simulate import SCHEME
from pockethdr.export.tuned import Tuned
from pockethdr.models.load import Loaded


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
    ready = rehearsal(
        loaded,
        base,
        brackets=brackets,
        size=size,
        tuned=tuned,
        patches=patches,
        allow_dynamic=allow_dynamic,
        say=say,
    )
    return search(
        ready.simulation(base),
        ready.simulation(base, unseen=True),
        groups_of(ready.program, base, SCHEME),
        base,
        max_loss=max_loss,
        memory=Memory(cache, ready.key),
        say=say,
    )
