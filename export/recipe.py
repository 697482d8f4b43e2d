"""Recipes: which operations of an INT8 artifact stay float, and how ranges are chosen. Plain data.

Two ends of an HDR network stay float by default. The input holds a dark frame whose whole signal
may be a few codes of an 8-bit scale; the output is linear, and eight bits of a linear HDR value cap
PSNR-µ at 20 to 43 dB however good the network.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pockethdr.errors import PocketError

METHODS = ("minmax", "percentile", "mse", "entropy")
WEIGHT_RANGES = ("minmax", "mse")


class RecipeError(PocketError):
    """A recipe that does not exist or is not one."""


@dataclass(frozen=True)
class Recipe:
    """What of a program becomes INT8.

    Attributes:
        name: as in `RECIPES`, or the user's own.
        float_first: convolutions that no convolution precedes stay float.
        float_last: convolutions that no convolution follows stay float, with what comes after.
        float_tail: what comes after them stays float, whatever they are; moves of pixels excepted.
        float_context: what is computed from pooled, spatially tiny values stays float; one code
            of a global Φ shifts the whole image, and the work is negligible.
        input_gains: factors on the aligned half of short, mid and long before they are quantised;
            see `export.input_gains`. Empty for none.
        float_nodes: further patterns (`*` and `?`) on node names, module paths or operator names
            such as `aten.add`; what matches stays float.
        method: how ranges are chosen from the calibration: one of `METHODS`.
        methods: node name → method, of tensors with one of their own; see `export.auto_methods`.
        margin: factor on every chosen range. Above 1 it leaves room for highlights brighter than
            the calibration's.
        weights: range of each output channel's weights: `minmax`, or `mse` (clip where the squared
            rounding error is least).
    """

    name: str
    float_first: bool = True
    float_last: bool = True
    float_tail: bool = True
    float_context: bool = True
    input_gains: tuple[float, ...] = ()
    float_nodes: tuple[str, ...] = ()
    method: str = "minmax"
    methods: dict[str, str] = field(default_factory=dict)
    margin: float = 1.0
    weights: str = "minmax"

    def __post_init__(self) -> None:
        for method in (self.method, *self.methods.values()):
            _require(method in METHODS, f"method `{method}`", f"one of {', '.join(METHODS)}")
        _require(
            self.weights in WEIGHT_RANGES,
            f"weights `{self.weights}`",
            f"one of {', '.join(WEIGHT_RANGES)}",
        )
        _require(
            len(self.input_gains) in (0, 3) and all(g > 0 for g in self.input_gains),
            f"input_gains {list(self.input_gains)}",
            "a positive number for each of short, mid, long, or none",
        )
        _require(0.1 <= self.margin <= 10.0, f"margin {self.margin}", "between 0.1 and 10")

    def narrows(self, other: Recipe) -> bool:
        """Whether this keeps in float what `other` does, perhaps more, and is else the same."""
        alike = replace(self, name=other.name, float_nodes=other.float_nodes)
        return alike == other and set(other.float_nodes) <= set(self.float_nodes)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self).items()
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values}


def _require(holds: bool, what: str, expected: str) -> None:
    if not holds:
        raise RecipeError(f"recipe: {what} is not valid", expected=expected)


#: The named recipes. What each costs and keeps: docs/decisions/005-int8-recipe.md.
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # Additions and concatenations bring a dark stream and a bright one to one scale; DSAN's
        # filters and its fusion sit between such joins.
        Recipe("hdr", float_nodes=("filter_*", "fuse", "aten.cat", "aten.add"), method="mse"),
        Recipe("hdr-wide", float_nodes=("fuse", "aten.cat", "aten.add"), method="mse"),
        Recipe("hdr-ends"),
        Recipe("full", float_first=False, float_last=False, float_tail=False, float_context=False),
        # All but the last convolution: where a search for an accuracy target starts.
        Recipe("all-but-last", float_first=False, method="mse"),
        # The same with frames scaled. Only for weights tuned for it: pockethdr finetune.
        Recipe("tuned", float_first=False, input_gains=(1.0, 2.0, 4.0), method="mse"),
    )
}

#: For a network without tuned weights; one with them has the recipe that they were tuned for.
DEFAULT_RECIPE = "hdr"
WIDEST_RECIPE = "all-but-last"


def named_recipe(name: str) -> Recipe:
    """The recipe called `name`."""
    if name not in RECIPES:
        raise RecipeError(
            f"unknown recipe `{name}`",
            expected=f"one of {', '.join(RECIPES)}",
            fix="or pass a JSON file with the fields of a recipe",
        )
    return RECIPES[name]


def recipe_from_json(raw: dict[str, Any] | str) -> Recipe:
    """A recipe from its JSON (text or parsed); `{"base": "hdr", …}` starts from a named one.

    Raises:
        RecipeError: not JSON, an unknown field, a value of the wrong type.
    """
    values = _parsed(raw)
    base = named_recipe(str(values.pop("base", DEFAULT_RECIPE)))
    known = {f.name: type(getattr(base, f.name)) for f in fields(Recipe)}
    for name, value in values.items():
        if name not in known:
            raise RecipeError(f"recipe: unknown field `{name}`", expected=", ".join(known))
        is_numbers = name == "input_gains"
        values[name] = _numbers(name, value) if is_numbers else _cast(name, value, known[name])
    return replace(base, **values)


def _parsed(raw: dict[str, Any] | str) -> dict[str, Any]:
    try:
        values = json.loads(raw) if isinstance(raw, str) else dict(raw)
    except ValueError as error:
        raise RecipeError(f"a recipe that is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(
            "a recipe that is no JSON object", expected='such as {"base": "hdr", "margin": 1.1}'
        )
    return values


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
    _require(numbers, f"{name} = {value!r}", "a list of numbers")
    return tuple(float(v) for v in value)


def _cast(name: str, value: Any, kind: type) -> Any:
    if kind is tuple:
        strings = isinstance(value, list) and all(isinstance(v, str) for v in value)
        _require(strings, f"{name} = {value!r}", "a list of strings")
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    _require(type(value) is kind, f"{name} = {value!r}", f"a {kind.__name__}")
    return value
