"""Constant is what depends on no input and no chance, to every rewrite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from pockethdr.errors import RefusedError
from pockethdr.export.constants import Constants
from pockethdr.export.lowrank import dynamic_convolutions
from pockethdr.export.rewrites import FoldConstants
from pockethdr.export.static import static_program
from pockethdr.export.trace import traced
from pockethdr.models.load import Loaded, example_frames

FRAMES = example_frames("raw", 16, 16)


class Mixed(nn.Module):
    """Kernels by chance, from constants through a split, and from an input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8, 8, 3, 3))

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        by_chance = torch.conv2d(short, torch.randn(4, 8, 3, 3), padding=1)
        first, second = (2 * self.weight).split(4)
        fixed = torch.conv2d(mid, first + second, padding=1)
        return by_chance + fixed + torch.conv2d(long, first * long.mean(), padding=1)


class Attention(nn.Module):
    """Calls an operator that could draw, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = self.conv(short + mid + long)
        return nn.functional.scaled_dot_product_attention(x, x, x)


def loaded(module: nn.Module) -> Loaded:
    return Loaded("net", "net", "raw", module.eval(), None, None)


@pytest.fixture(scope="module")
def program() -> fx.GraphModule:
    return traced(Mixed(), FRAMES)


def node(program: fx.GraphModule, name: str) -> fx.Node:
    return next(each for each in program.graph.nodes if each.name == name)


def test_what_is_drawn_is_no_constant(program: fx.GraphModule) -> None:
    constants = Constants(program)
    assert node(program, "randn") not in constants
    assert constants.value(node(program, "randn")) is None
    assert [each.name for each in dynamic_convolutions(program)] == ["conv2d", "conv2d_2"]


def test_parts_of_a_split_constant_are_constants(program: fx.GraphModule) -> None:
    constants, weight = Constants(program), program.get_parameter("weight").detach()
    value = constants.value(node(program, "conv2d_1").all_input_nodes[1])
    torch.testing.assert_close(value, 2 * weight[:4] + 2 * weight[4:])
    split = node(program, "split")
    assert split in constants
    assert constants.value(split) is None, "it is no tensor, but two"


def test_folding_and_dynamic_kernels_share_that(program: fx.GraphModule) -> None:
    constants = Constants(program)
    folded = list(FoldConstants().pattern(program))
    assert folded
    assert all(each in constants for each in folded)
    assert node(program, "randn") not in folded


def test_a_network_that_draws_its_kernel_is_refused() -> None:
    for allow_dynamic in (False, True):
        with pytest.raises(RefusedError, match=r"randn +aten.randn +test_export_constants.py:\d+"):
            static_program(loaded(Mixed()), size=(16, 16), allow_dynamic=allow_dynamic)


def test_attention_without_dropout_draws_nothing() -> None:
    done = static_program(loaded(Attention()), size=(16, 16))
    assert dynamic_convolutions(done.program) == []
