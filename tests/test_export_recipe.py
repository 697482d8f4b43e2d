"""Recipes are plain data, and say what is wrong with them."""

import json

import pytest

from pockethdr.calibration import ranges
from pockethdr.export.recipe import (
    METHODS,
    RECIPES,
    Recipe,
    RecipeError,
    named_recipe,
    recipe_from_json,
)


def test_a_recipe_names_every_method_that_there_is() -> None:
    assert set(METHODS) == set(ranges.METHODS)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=str)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert recipe_from_json(json.dumps(recipe.to_json())) == recipe
    assert recipe_from_json(recipe.to_json()) == recipe


def test_a_recipe_may_start_from_a_named_one() -> None:
    changed = recipe_from_json({"base": "full", "name": "mine", "margin": 2})
    assert (changed.name, changed.margin, changed.float_last) == ("mine", 2.0, False)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"flaot_nodes": []}, "flaot_nodes"),
        ({"float_nodes": "conv"}, "list of strings"),
        ({"method": "guess"}, "minmax"),
        ({"methods": {"conv2d": "guess"}}, "minmax"),
        ({"methods": ["conv2d"]}, "a dict"),
        ({"weights": "entropy"}, "mse"),
        ({"margin": 0.0}, "between"),
        ({"float_last": 1}, "bool"),
        ({"base": "none"}, "unknown recipe"),
        ("[1]", "JSON"),
        ("{", "not JSON"),
    ],
)
def test_what_is_no_recipe_is_refused(raw: object, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_from_json(raw)  # type: ignore[arg-type]


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(RecipeError, match="hdr-wide"):
        named_recipe("hdrr")
