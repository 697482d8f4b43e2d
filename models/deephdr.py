"""DeepHDR: an encoder-decoder with strided convolutions, residual blocks and skips.

    Merge(e) = concat(r_N, e),   r_0 = e,   r_n = x + F_n(x),   x = lrelu(r_{n-1})
    F(x)     = BN(Conv3x3(ReLU(BN(Conv3x3(x)))))        the paper's; the benchmark's has the last BN

Source: Wu et al., "Deep High Dynamic Range Imaging with Large Foreground Motions", ECCV 2018, and
its code, elliottwu/DeepHDR (variant paper: reflected edges, 5×5 transposed convolutions, values in
[-1, 1]). Variant bench is unet.py of TianhongDai/deep-hdr-baselines. The paper's transposed
convolutions begin one pixel earlier than PyTorch's of the same size; nothing else differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pockethdr.models.encoder_decoder import (
    REFLECT,
    EncoderDecoder,
    EncoderDecoderConfig,
    SameConv,
    norm_of,
)
from pockethdr.models.network import SQRT


@dataclass(frozen=True)
class DeepHdrConfig(EncoderDecoderConfig):
    """Every switch of the network; the defaults are the benchmark's.

    Attributes:
        block_slope: of the leaky ReLU in front of each residual block; 0 is the paper's ReLU.
        block_norms: batch norms in a residual block, 2 in the paper.
    """

    block_slope: float = 0.01
    block_norms: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(block_norms=(1, 2))

    @property
    def radius(self) -> int:
        return self.radius_with(2 * self.blocks)


VARIANTS = {
    "paper": DeepHdrConfig(
        up_kernel=5, padding=REFLECT, slope=0.2, head="tanh", block_slope=0.0, block_norms=2
    ),
    "bench": DeepHdrConfig(),
    "mobile": DeepHdrConfig(
        input_coding=SQRT, widths=(32, 40, 48), blocks=5, kernel=3, norm=False, down=2, dark=True
    ),
}


class DeepHdr(EncoderDecoder):
    """The network of one `DeepHdrConfig`."""

    config: DeepHdrConfig

    def __init__(self, config: DeepHdrConfig) -> None:
        super().__init__(config, ResidualMerge(config))


class ResidualMerge(nn.Module):
    """e, N×C×h×w → concat(r_N, e), N×2C×h×w."""

    def __init__(self, config: DeepHdrConfig) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(NormedBlock(config) for _ in range(config.blocks)))

    def forward(self, e: Tensor) -> Tensor:
        return torch.cat([self.blocks(e), e], 1)


class NormedBlock(nn.Module):
    """x + F(x) for x = lrelu(r)."""

    def __init__(self, config: DeepHdrConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.slope = config.block_slope
        self.first = SameConv(width, width, 3, 1, config.padding)
        self.first_norm = norm_of(width, config) if config.block_norms == 2 else nn.Identity()
        self.second = SameConv(width, width, 3, 1, config.padding)
        self.second_norm = norm_of(width, config)

    def forward(self, r: Tensor) -> Tensor:
        x = F.leaky_relu(r, self.slope) if self.slope else F.relu(r)
        return x + self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
