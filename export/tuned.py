"""Weights and ranges tuned for INT8, kept beside the float weights that they stand in for.

A file holds the constants of the rewritten program, which is what gets quantised, and in its header
the recipe, the learned ranges and the sha256 of the float network: a network that was trained on
since has another, and its old tuning is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import fx

from pockethdr.errors import WeightsError
from pockethdr.export.identity import state_sha256
from pockethdr.export.input_gains import with_input_gains
from pockethdr.export.program import constants_of_size
from pockethdr.export.recipe import DEFAULT_RECIPE, Recipe, named_recipe, recipe_from_json
from pockethdr.files import sha256_of
from pockethdr.models import zoo
from pockethdr.models.load import Loaded
from pockethdr.models.weights import OtherTensorsError, load_weights, read_header, save_weights

KIND = "int8"


@dataclass(frozen=True)
class Tuned:
    """One file of `pockethdr finetune`.

    Attributes:
        of: sha256 of the float network's values, see `state_sha256`.
        recipe: what the weights were tuned for; they fit no other.
        ranges: node name → (low, high) of every value that becomes integer.
    """

    path: Path
    of: str
    recipe: Recipe
    ranges: Mapping[str, tuple[float, float]]

    def program(self, program: fx.GraphModule) -> fx.GraphModule:
        """The static program of the float network, at any size, with the tuned constants.

        Raises:
            WeightsError: the program has other constants than the one that was tuned.
        """
        prepared = with_input_gains(program, self.recipe.input_gains)
        try:
            load_weights(self.path, prepared, besides=constants_of_size(prepared))
        except OtherTensorsError as error:
            raise WeightsError(
                f"{self.path}: tuned for another form of this network than it is rewritten to now",
                expected="the constants that the rewrites of this version leave",
                fix="run pockethdr finetune again, with the version that exports",
            ) from error
        return prepared

    def check_fits(self, loaded: Loaded, recipe: Recipe | None) -> None:
        """That these weights stand in for those of `loaded`, under a recipe or their own.

        Raises:
            WeightsError: they are of another network or recipe.
        """
        if self.of != state_sha256(loaded):
            raise WeightsError(
                f"{self.path}: tuned from other weights than these of {loaded.spec}",
                expected=f"a network of sha256 {self.of[:12]}…",
                fix="run pockethdr finetune again, or give the weights it was run on",
            )
        if recipe is not None and not recipe.narrows(self.recipe):
            raise WeightsError(
                f"{self.path}: tuned for the recipe `{self.recipe.name}`",
                expected="that recipe, perhaps with more in float: weights tuned for one fit no "
                "other",
                fix="leave --recipe out, or tune for the recipe you want",
            )

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "file": self.path.name,
            "sha256": sha256_of(self.path),
            "recipe": self.recipe.name,
        }


def chosen_recipe(
    loaded: Loaded, recipe: Recipe | None, file: Path | None
) -> tuple[Recipe, Tuned | None]:
    """The recipe of an export, and the tuning it goes with.

    Args:
        recipe: what the user asked for; None takes the tuning's, else the default. One that
            only keeps more in float than the tuning's goes with it, too.
        file: the tuning that the user named; None looks for one that ships with the network.

    Raises:
        WeightsError: the named tuning is of another network or recipe.
    """
    if file is not None:
        tuned = read_tuned(file)
        tuned.check_fits(loaded, recipe)
        return recipe or tuned.recipe, tuned
    shipped = shipped_tuning(loaded)
    if shipped is None or not (recipe is None or recipe.narrows(shipped.recipe)):
        return recipe or named_recipe(DEFAULT_RECIPE), None
    return recipe or shipped.recipe, shipped


def shipped_tuning(loaded: Loaded) -> Tuned | None:
    """The tuning that comes with the package for exactly these weights, or None."""
    path = zoo.shipped_weights(loaded.spec, loaded.domain)
    if path is None:
        return None
    beside = path.with_name(f"{path.stem}-{KIND}.safetensors")
    found = read_tuned(beside) if beside.exists() else None
    return found if found and found.of == state_sha256(loaded) else None


def read_tuned(path: Path) -> Tuned:
    """Read what `write_tuned` wrote.

    Raises:
        WeightsError: no such file, or not one of tuned weights.
    """
    header = read_header(path)
    if header.get("kind") != KIND:
        raise WeightsError(
            f"{path}: float weights",
            expected="weights tuned for INT8",
            fix="pockethdr finetune MODEL --sources DIR --out FILE writes them",
        )
    ranges = {name: (float(low), float(high)) for name, (low, high) in header["ranges"].items()}
    return Tuned(path, header["of"], recipe_from_json(header["recipe"]), ranges)


def write_tuned(
    path: Path,
    program: fx.GraphModule,
    ranges: Mapping[str, tuple[float, float]],
    *,
    loaded: Loaded,
    recipe: Recipe,
    training: Mapping[str, Any],
) -> Tuned:
    """Write the constants of `program`, which `with_input_gains` prepared, and their ranges."""
    header = {
        "kind": KIND,
        "architecture": loaded.name,
        "domain": loaded.domain,
        "of": state_sha256(loaded),
        "recipe": recipe.to_json(),
        "ranges": {name: list(ends) for name, ends in sorted(ranges.items())},
        "training": dict(training),
    }
    save_weights(path, program, header, besides=constants_of_size(program))
    return read_tuned(path)
