"""Blocks that several of the networks are built from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(channels: int, out_channels: int) -> nn.Conv2d:
    """A 3×3 convolution that keeps height and width."""
    return nn.Conv2d(channels, out_channels, 3, padding=1)


class ResidualBlock(nn.Module):
    """x + Conv3x3(ReLU(Conv3x3(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class DenseBlock(nn.Module):
    """AHDRNet's DRDB: six dilated convolutions, each on all before it, a 1×1 and a skip."""

    def __init__(self, channels: int, growth: int = 32, layers: int = 6, dilation: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + n * growth, growth, 3, padding=dilation, dilation=dilation)
            for n in range(layers)
        )
        self.join = nn.Conv2d(channels + layers * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        dense = x
        for layer in self.layers:
            dense = torch.cat([dense, F.relu(layer(dense))], 1)
        return x + self.join(dense)


def start_dark(out: nn.Conv2d) -> None:
    """Let a network begin at sigmoid(-3) = 0.05.

    A raw HDR frame is dark; from one half the µ-law loss would start on a plateau.
    """
    assert out.bias is not None
    nn.init.constant_(out.bias, -3.0)
