"""What readers hand on of an error below zero, on graphs whose answer is plain."""

import re

import pytest
import torch
import torch.nn.functional as F
from of_function import Of
from torch import Tensor, nn

from pockethdr.export.placement import check_patterns, handed_on_below_zero
from pockethdr.export.recipe import RECIPES, Recipe, RecipeError
from pockethdr.export.trace import traced


@pytest.mark.parametrize(
    ("readers", "handed_on"),
    [
        (lambda x: F.relu(x), 0.0),
        (lambda x: F.leaky_relu(x, 0.01), 0.01),
        (lambda x: F.relu(x) + F.leaky_relu(x, 0.2), 0.2),
        (lambda x: F.leaky_relu(F.pixel_shuffle(x, 2), 0.1), 0.1),
        (lambda x: F.relu(F.avg_pool2d(x, 2)), 1.0),  # a mean mixes both signs
        (lambda x: F.relu(x) + x, 1.0),
        (lambda x: x, 1.0),
    ],
)
def test_readers(readers, handed_on: float) -> None:
    program = traced(Of(lambda x: readers(x.exp())), (torch.randn(1, 4, 8, 8),))
    assert handed_on_below_zero(program)["exp"] == pytest.approx(handed_on)


class Two(nn.Module):
    """Two layers, `first` and `second`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("secnod", "did you mean `second`"), ("aten.conv", "aten.conv2d"), ("xyz*", "debug")],
)
def test_a_pattern_that_keeps_nothing_in_float_is_misspelt(pattern: str, said: str) -> None:
    program = traced(Two(), (torch.randn(1, 4, 8, 8),))
    with pytest.raises(RecipeError, match=f"float_nodes `{re.escape(pattern)}`") as error:
        check_patterns(program, Recipe("mine", float_nodes=("first", pattern)))
    assert said in str(error.value)


def test_operations_modules_and_operators_are_known() -> None:
    program = traced(Two(), (torch.randn(1, 4, 8, 8),))
    check_patterns(program, Recipe("mine", float_nodes=("conv2d*", "first", "aten.relu")))


def test_patterns_of_named_recipes_are_for_any_network() -> None:
    program = traced(Two(), (torch.randn(1, 4, 8, 8),))
    for recipe in RECIPES.values():
        check_patterns(program, recipe)
