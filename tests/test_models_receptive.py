"""The measured halo, on networks whose halo is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pockethdr.models import zoo
from pockethdr.models.blocks import DenseBlock
from pockethdr.models.dsan import Dsan
from pockethdr.models.load import example_frames
from pockethdr.models.receptive import halo_of, receptive_radius

_FRAMES = example_frames("raw", 16, 16)


class _Wrapped(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return self.layers(mid)


@pytest.mark.parametrize(
    ("layers", "radius"),
    [
        ([nn.Conv2d(8, 4, 1)], 0),
        ([nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 5, padding=2)], 3),
        ([nn.Conv2d(8, 4, 3, padding=20, dilation=20)], 20),
        ([nn.Conv2d(8, 4, 3, padding=60, dilation=60)], 60),
        ([nn.PixelUnshuffle(2), nn.Conv2d(32, 16, 3, padding=1), nn.PixelShuffle(2)], 2),
    ],
)
def test_known_radii(layers: list[nn.Module], radius: int) -> None:
    torch.manual_seed(0)
    assert receptive_radius(_Wrapped(*layers), _FRAMES) == radius


def test_global_means_have_none() -> None:
    torch.manual_seed(0)
    tiny = replace(zoo.variant("dsan-m16-global").config, channels=4, blocks=1, squeeze=4)
    assert receptive_radius(Dsan(tiny), _FRAMES) is None


def test_the_mobile_network_needs_26_and_the_grid_more() -> None:
    torch.manual_seed(0)
    network = zoo.build("dsan-m16", "raw")
    assert receptive_radius(network, _FRAMES) == 26
    assert receptive_radius(zoo.build("dsan-m16-grid", "raw"), _FRAMES) == 42


def test_the_full_network_needs_54() -> None:
    """Its halo depends on depth and dilation alone, so a narrow one tells it."""
    torch.manual_seed(0)
    config = replace(zoo.variant("dsan-full").config, channels=8, latent=2, squeeze=4)
    narrow = Dsan(config)
    narrow.blocks = nn.ModuleList(DenseBlock(8, growth=8) for _ in range(config.blocks))
    assert receptive_radius(narrow, _FRAMES) == 54


@pytest.mark.parametrize(
    "name", ["dsan-m16", "dsan-m16-grid", "dsan-m16-static", "dsan-m16-global"]
)
def test_dsan_declares_what_is_measured(name: str) -> None:
    torch.manual_seed(0)
    network = zoo.build(name, "raw")
    assert halo_of(network, _FRAMES) == receptive_radius(network, _FRAMES)


def test_own_networks_are_measured() -> None:
    torch.manual_seed(0)
    assert halo_of(_Wrapped(nn.Conv2d(8, 4, 5, padding=2)), _FRAMES) == 2


def test_height_and_width_are_both_looked_at() -> None:
    torch.manual_seed(0)
    wide = _Wrapped(nn.Conv2d(8, 4, (3, 9), padding=(1, 4)))
    assert receptive_radius(wide, _FRAMES) == 4


def test_the_module_comes_back_unchanged() -> None:
    network = zoo.build("dsan-m16", "raw").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    receptive_radius(network, _FRAMES)
    assert network.training
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())
