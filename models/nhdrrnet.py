"""NHDRRNet: an encoder-decoder whose middle sees near (triple-pass blocks) and far (non-local).

    T(x)  = x + Conv3x3(combine(ReLU(Conv1x1(x)), ReLU(Conv3x3(x)), ReLU(Conv5x5(x))))
    N(x)  = resize(p + Conv1x1(softmax(θ(p)ᵀ φ(p)) g(p))),   p = x averaged on a 16×16 grid
    Merge = concat(N(e), T_N(… T_1(e)))

Source: Yan et al., "Deep HDR Imaging via a Non-Local Network", TIP 2020. Its authors published no
code. Variant bench is nhdrrnet.py of TianhongDai/deep-hdr-baselines and Joint-HDRDN. Variant paper
follows re-implementations, which disagree: `combine` = sum is tuvovan/NHDRRNet, whose size is
the 32 M that it says the paper states; concat is ytZhang99/NHDRRNet-PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pockethdr.models.blocks import conv3x3
from pockethdr.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from pockethdr.models.network import SQRT, Network, NetworkConfig

CONCAT, SUM = "concat", "sum"
GRID = 16


@dataclass(frozen=True)
class NhdrrnetConfig(EncoderDecoderConfig):
    """Every switch of the benchmark's form.

    Attributes:
        combine: how the three passes of a block come together, concat or sum.
    """

    combine: str = CONCAT

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(combine=(CONCAT, SUM))

    @property
    def radius(self) -> None:
        return None


@dataclass(frozen=True)
class NhdrrnetPaperConfig(NetworkConfig):
    """Every switch of the paper's form.

    Attributes:
        widths: channels of the encoders' stages, each at half the size of the one before.
        blocks: triple-pass blocks.
        combine: how passes, and skips, come together: sum or concat.
    """

    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: int = 10
    combine: str = SUM

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "widths", tuple(self.widths))
        self.check(combine=(CONCAT, SUM))

    @property
    def multiple(self) -> int:
        return 16

    @property
    def radius(self) -> None:
        return None


VARIANTS: dict[str, NetworkConfig] = {
    "paper": NhdrrnetPaperConfig(),
    "bench": NhdrrnetConfig(),
    "mobile": NhdrrnetConfig(
        input_coding=SQRT,
        widths=(32, 40, 40),
        blocks=3,
        kernel=3,
        norm=False,
        combine=SUM,
        down=2,
        dark=True,
    ),
}


class Nhdrrnet(EncoderDecoder):
    """The network of one `NhdrrnetConfig`."""

    config: NhdrrnetConfig

    def __init__(self, config: NhdrrnetConfig) -> None:
        super().__init__(config, NearAndFar(config))


class NearAndFar(nn.Module):
    """e, N×C×h×w → concat(N(e), T_N(… T_1(e))), N×2C×h×w; lrelu in front of each T."""

    def __init__(self, config: NhdrrnetConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.slope = config.slope
        self.blocks = nn.ModuleList(TriplePass(width, config.combine) for _ in range(config.blocks))
        self.far = NonLocal(width)

    def forward(self, e: Tensor) -> Tensor:
        near = e
        for block in self.blocks:
            near = block(F.leaky_relu(near, self.slope))
        return torch.cat([self.far(e), near], 1)


class NhdrrnetPaper(Network):
    """The network of one `NhdrrnetPaperConfig`: four stages down and up."""

    config: NhdrrnetPaperConfig

    def __init__(self, config: NhdrrnetPaperConfig) -> None:
        super().__init__()
        self.config = config
        *fine, width = config.widths
        joined = config.combine == CONCAT
        self.encoder_short, self.encoder_mid, self.encoder_long = (
            _encoder(config) for _ in range(3)
        )
        merge = conv3x3(3 * width, width) if joined else nn.Conv2d(3 * width, width, 1)
        self.merge = _normed(merge, 0.01 if joined else 0.0)
        self.blocks = nn.Sequential(
            *(TriplePass(width, config.combine) for _ in range(config.blocks))
        )
        self.far = NonLocal(width)
        channels = [2 * width, *(w * (4 if joined else 1) for w in reversed(fine))]
        self.ups = nn.ModuleList(
            _normed(_doubling(c, w), 0.01) for c, w in zip(channels, reversed(fine), strict=False)
        )
        self.out = (
            nn.Sequential(
                _normed(_doubling(channels[-1], fine[0]), 0.01),
                conv3x3(fine[0], config.output_planes),
            )
            if joined
            else _doubling(channels[-1], config.output_planes)
        )

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        """Linear HDR in [0, 1]; 1.0 = clip level of the shortest frame."""
        encoders = (self.encoder_short, self.encoder_mid, self.encoder_long)
        levels = []  # from fine to coarse, the three frames of each
        frames = tuple(self.coded(frame) for frame in (short, mid, long))
        for stages in zip(*encoders, strict=True):
            frames = tuple(stage(frame) for stage, frame in zip(stages, frames, strict=True))
            levels.append(frames)
        merged = self.merge(torch.cat(levels.pop(), 1))
        x = torch.cat([self.blocks(merged), self.far(merged)], 1)
        for up in self.ups:
            x = self._with_skips(up(x), levels.pop())
        return torch.sigmoid(self.out(x))

    def _with_skips(self, x: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        if self.config.combine == CONCAT:
            return torch.cat([*skips, x], 1)
        return x + skips[0] + skips[1] + skips[2]


class TriplePass(nn.Module):
    """x + Conv3x3 of three passes of 1, 3 and 5 pixels."""

    def __init__(self, channels: int, combine: str) -> None:
        super().__init__()
        self.combine = combine
        self.small, self.medium, self.large = (
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2) for kernel in (1, 3, 5)
        )
        self.merge = conv3x3(3 * channels if combine == CONCAT else channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        passes = [F.relu(conv(x)) for conv in (self.small, self.medium, self.large)]
        together = torch.cat(passes, 1) if self.combine == CONCAT else sum(passes[1:], passes[0])
        return x + self.merge(together)


class NonLocal(nn.Module):
    """Attention between all cells of a 16×16 grid, N×C×h×w → N×C×h×w; every cell sees all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.theta, self.phi, self.g = (nn.Conv2d(channels, half, 1) for _ in range(3))
        self.back = nn.Conv2d(half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, GRID)
        theta, phi, g = (conv(pooled).flatten(2) for conv in (self.theta, self.phi, self.g))
        weights = torch.softmax(theta.transpose(1, 2) @ phi, dim=-1)
        seen = (weights @ g.transpose(1, 2)).transpose(1, 2).unflatten(2, (GRID, GRID))
        return F.interpolate(self.back(seen) + pooled, size=x.shape[-2:], mode="nearest")


def _encoder(config: NhdrrnetPaperConfig) -> nn.ModuleList:
    widths = (config.planes, *config.widths)
    slope = 0.01 if config.combine == CONCAT else 0.0
    return nn.ModuleList(
        _normed(nn.Conv2d(c, w, 3, stride=2, padding=1), slope) for c, w in pairwise(widths)
    )


def _doubling(channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1)


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d, slope: float) -> nn.Sequential:
    """The convolution, batch norm, and a leaky ReLU or (slope 0) a ReLU."""
    activation = nn.LeakyReLU(slope) if slope else nn.ReLU()
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), activation)
