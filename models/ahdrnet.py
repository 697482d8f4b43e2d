"""AHDRNet: attention picks what of the short and the long frame to use, dense blocks fuse it.

    F_i = LReLU(Conv3x3(X_i))                               one convolution for the three frames
    A_i = sigmoid(Conv3x3(LReLU(Conv3x3(concat(F_i, F_mid)))))      i = short, long: own weights
    D_0 = Conv3x3(concat(A_short F_short, F_mid, A_long F_long)),  D_n = DRDB_n(D_{n-1})
    H   = sigmoid(Conv3x3(Conv3x3(Conv3x3(Conv1x1(concat(D_1 … D_N))) + F_mid)))

Source: Yan et al., "Attention-guided Network for Ghost-free High Dynamic Range Imaging", CVPR 2019,
and its code, qingsenyangit/AHDRNet. That code also holds two convolutions, attConv1 and attConv3,
that its forward pass never runs: they are in no configuration here, see `import_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pockethdr.models.blocks import DenseBlock, conv3x3, start_dark
from pockethdr.models.network import SQRT, Network, NetworkConfig


@dataclass(frozen=True)
class AhdrnetConfig(NetworkConfig):
    """Every switch of the network; the defaults are the paper's.

    Attributes:
        channels: width of the features.
        growth: channels that each layer of a dense block adds; layers: how many it has.
        blocks: dense blocks.
        down: 2 runs everything at half resolution, between space-to-depth and depth-to-space.
        act_between: also activate between the convolutions that follow the dense blocks, where
            the paper has none; DSAN's mobile form has it too.
        dark: start at a dark image, as DSAN does.
    """

    channels: int = 64
    growth: int = 32
    layers: int = 6
    blocks: int = 3
    down: int = 1
    act_between: bool = False
    dark: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(down=(1, 2))

    @property
    def multiple(self) -> int:
        return self.down

    @property
    def radius(self) -> int:
        around, dense = 7, 2 * self.layers  # the 3×3 one after another; a dense block
        return self.down * (around + dense * self.blocks)


#: The benchmark of Mobile-HDR uses the paper's network; only the domain's channels differ.
VARIANTS = {
    "paper": AhdrnetConfig(),
    "bench": AhdrnetConfig(),
    "mobile": AhdrnetConfig(
        input_coding=SQRT, channels=24, growth=8, down=2, act_between=True, dark=True
    ),
}


class Ahdrnet(Network):
    """The network of one `AhdrnetConfig`."""

    config: AhdrnetConfig

    def __init__(self, config: AhdrnetConfig) -> None:
        super().__init__()
        self.config = config
        width, area = config.channels, config.down**2
        self.features = conv3x3(config.planes * area, width)
        self.attention_short = Attention(width)
        self.attention_long = Attention(width)
        self.fuse = conv3x3(3 * width, width)
        self.blocks = nn.ModuleList(
            DenseBlock(width, config.growth, config.layers) for _ in range(config.blocks)
        )
        self.gather = nn.Conv2d(config.blocks * width, width, 1)
        self.gather_up = conv3x3(width, width)
        self.tail = conv3x3(width, width)
        self.out = conv3x3(width, config.output_planes * area)
        if config.dark:
            start_dark(self.out)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        """Linear HDR in [0, 1]; 1.0 = clip level of the shortest frame."""
        f_short, f_mid, f_long = (self._features(frame) for frame in (short, mid, long))
        a_short = f_short * self.attention_short(f_short, f_mid)
        a_long = f_long * self.attention_long(f_long, f_mid)
        x = self.fuse(torch.cat([a_short, f_mid, a_long], 1))
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        x = self._between(self.gather(torch.cat(outputs, 1)))
        x = self._between(self.tail(self.gather_up(x) + f_mid))
        x = torch.sigmoid(self.out(x))
        return F.pixel_shuffle(x, 2) if self.config.down == 2 else x

    def _features(self, frame: Tensor) -> Tensor:
        frame = self.coded(frame)
        if self.config.down == 2:
            frame = F.pixel_unshuffle(frame, 2)
        return F.leaky_relu(self.features(frame))

    def _between(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x) if self.config.act_between else x


class Attention(nn.Module):
    """How far a frame's features agree with the reference's: N×C×H×W in [0, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(2 * channels, 2 * channels)
        self.second = conv3x3(2 * channels, channels)

    def forward(self, features: Tensor, reference: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(torch.cat([features, reference], 1)))
        return torch.sigmoid(self.second(x))
