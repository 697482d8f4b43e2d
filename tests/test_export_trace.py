"""Programs hold floats where a network computes floats, however it writes its numbers and masks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import export_toy as nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pockethdr.export.lowrank import dynamic_convolutions
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import TARGETS
from pockethdr.export.trace import traced
from pockethdr.runtime.runner import open_runner

Numbers = Callable[[Tensor], Tensor]
Mask = Callable[["Masked", Tensor, Tensor, Tensor], Tensor]

NUMBERS: dict[str, Numbers] = {
    "clamp": lambda x: x.clamp(0.1, 1),
    "clip": lambda x: torch.clip(x, 0, 0.9),
    "where": lambda x: torch.where(x > 0.9, 1, x),
    "masked_fill": lambda x: x.masked_fill(x > 0.9, 1) * 2 - 1,
}

#: What a feature map meets, of truth values and whole numbers.
MASKS: dict[str, Mask] = {
    "mask": lambda net, x, mid, long: x * (mid[:, :1] < 0.7),
    "not": lambda net, x, mid, long: x * ~((mid[:, :1] > 0.7) | (long[:, :1] < 0.2)),
    "joined masks": lambda net, x, mid, long: (
        x[:, :2] * torch.cat([mid[:, :1] > 0.5, long[:, :1] < 0.7], 1).float()
    ),
    "count": lambda net, x, mid, long: x * ((mid[:, :1] > 0.3).int() + (long[:, :1] > 0.3).int()),
    "places": lambda net, x, mid, long: x + torch.arange(x.shape[-1]) / x.shape[-1],
    "whole places": lambda net, x, mid, long: x * torch.arange(x.shape[-1]),
    "sites": lambda net, x, mid, long: x * net.sites,
    "beside": lambda net, x, mid, long: torch.cat([x, mid > 0.5], 1),
    "chosen": lambda net, x, mid, long: torch.where(mid[:, :1] > 0.5, x, net.sites * x),
}


class Masked(nn.Module):
    """A mask between two convolutions."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = MASKS[how]
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.LazyConv2d(4, 3, padding=1)
        self.register_buffer("sites", torch.arange(nets.SIZE) % 2 == 0)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        seen = self.how(self, torch.relu(self.first(short)), mid, long)
        return torch.sigmoid(self.last(torch.relu(seen)))


def masked(how: str) -> nn.Module:
    torch.manual_seed(0)
    network = Masked(how).eval()
    network(*nets.frames())
    return network


class Numbered(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = NUMBERS[how]

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return self.how(short) + mid + long


@pytest.mark.parametrize("target", ["onnx", "tflite", "coreml"])
@pytest.mark.parametrize("how", NUMBERS)
def test_whole_numbers_beside_floats_are_floats(how: str, target: str, tmp_path: Path) -> None:
    program = nets.static(Numbered(how))
    assert nets.psnr(built(program, target, "fp32", tmp_path), wanted(Numbered(how))) > 80


@pytest.mark.parametrize("how", MASKS)
def test_masks_become_floats_where_they_meet_some(how: str) -> None:
    program = nets.static(masked(how))
    assert nets.psnr(nets.run(program, nets.frames()), wanted(masked(how))) > 120
    for target in ("onnx", "tflite", "tensorrt"):
        made = quantized(
            program, nets.ranges_of(program), RECIPES["full"], TARGETS[target].scheme
        ).program
        assert nets.psnr(nets.run(made, nets.frames()), wanted(masked(how))) > 25


@pytest.mark.parametrize("target", ["onnx", "tflite", "coreml"])
@pytest.mark.parametrize("how", ["mask", "joined masks", "whole places", "beside"])
def test_int8_artifacts_of_masks(how: str, target: str, tmp_path: Path) -> None:
    program, scheme = nets.static(masked(how)), TARGETS[target].scheme
    made = quantized(program, nets.ranges_of(program), RECIPES["full"], scheme).program
    assert nets.psnr(built(made, target, "int8", tmp_path), wanted(masked(how))) > 25


class Routed(nn.Module):
    """A kernel mixed for each image of a batch, which a loop takes one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, 4, 3, 3) / 6)
        self.route = nn.Linear(4, 4)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        shares = self.route(mid.mean((2, 3))).softmax(1)
        kernels = (shares[:, :, None, None, None, None] * self.weight).sum(1)
        done = [
            torch.conv2d(image, kernel, padding=1)
            for image, kernel in zip(short, kernels, strict=True)
        ]
        return torch.sigmoid(torch.stack(done) + long)


def test_a_kernel_of_an_image_without_a_batch_becomes_static() -> None:
    torch.manual_seed(0)
    network = Routed()
    assert dynamic_convolutions(traced(network, nets.frames()))
    program = nets.static(network)
    assert not dynamic_convolutions(program)
    assert nets.psnr(nets.run(program, nets.frames()), wanted(network)) > 120


def built(program: torch.fx.GraphModule, target: str, precision: str, folder: Path) -> np.ndarray:
    """What an artifact makes of the frames."""
    path = folder / f"a{TARGETS[target].suffix}"
    TARGETS[target].build(program, nets.frames(), precision, path)
    with closing(open_runner(path, target, threads=1)) as runner:
        return runner.run(tuple(np.asarray(frame) for frame in nets.frames()))


def wanted(network: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return network(*nets.frames()).numpy()
