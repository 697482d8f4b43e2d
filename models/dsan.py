"""DSAN: fuses a noisy three-exposure bracket into one clean HDR frame.

    X_i = concat(I_i, I_i / ratio_i)                      i = short, mid (reference), long
    F_i = act(Conv3x3(X_i))                               one convolution for the three frames
    G_i = W_i(concat(F_i, F_mid)) * F_i                   i = short, long: the dynamic filter
    R_0 = Conv3x3(concat(G_short, F_mid, G_long)),  R_n = Block_n(R_{n-1})
    H   = sigmoid(Conv3x3(Tail(R_N) + F_mid))             Tail: one or two Conv3x3

Source: Xiao, Yang, Zhang, Ju, Lam, "Dynamic Spatial Aggregation Network for Joint Denoising and
HDR Imaging" (two pages). What those pages leave open is a switch of `DsanConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pockethdr.errors import ModelError
from pockethdr.models.blocks import DenseBlock, ResidualBlock, conv3x3, start_dark
from pockethdr.models.dynamic_conv import (
    GLOBAL,
    GRID,
    GRID_STRIDE,
    PIXEL,
    STATIC,
    DynamicConv,
    DynamicSpec,
)
from pockethdr.models.network import Network, NetworkConfig


@dataclass(frozen=True)
class DsanConfig(NetworkConfig):
    """Every switch of the network.

    Attributes:
        channels: width C of the features.
        phi_mode: Φ per image, on a coarse grid, per pixel, or `static` (W0 alone).
        latent: L; block: size of Φ's diagonal blocks, 0 for a full Φ.
        squeeze: width of the layers that predict Φ.
        phi_act: none or tanh (bounds Φ to [-1, 1]).
        q_kernel: size of Q's taps, 1 (the centre tap alone) or 3.
        use_lambda: DCD's Λ, a predicted factor on each output of W0; the paper has none.
        filter_input: the filter acts on F_i (frame) or on concat(F_i, F_mid) (concat).
        share_filters: one filter for the short and the long frame.
        block_type: drdb (dilated dense, as in AHDRNet) or res (3×3, ReLU, 3×3).
        gff: fuse the outputs of all blocks by a 1×1 convolution, as AHDRNet does.
        down: 2 runs the body at half resolution, between space-to-depth and depth-to-space.
        act: after the feature convolution: lrelu (slope 0.1) or relu.
        tail: convolutions between the blocks and the last one.
        act_between: also after R_0 and before the last convolution, where AHDRNet has none.
        input_mode: ldr+lin (X_i above), lin+lin1 (the paper's equation taken literally: the
            aligned short frame and the aligned frame i) or ldr (I_i alone).
    """

    channels: int = 64
    phi_mode: str = GLOBAL
    latent: int = 16
    block: int = 0
    squeeze: int = 32
    phi_act: str = "tanh"
    q_kernel: int = 1
    use_lambda: bool = False
    filter_input: str = "frame"
    share_filters: bool = False
    block_type: str = "drdb"
    blocks: int = 4
    gff: bool = False
    down: int = 1
    act: str = "lrelu"
    tail: int = 2
    act_between: bool = False
    input_mode: str = "ldr+lin"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(**_CHOICES)
        if self.block and self.latent % self.block:
            raise ModelError(
                f"DsanConfig.block = {self.block} does not divide latent = {self.latent}",
                expected="a divisor of latent, or 0 for a full Φ",
            )

    @property
    def multiple(self) -> int:
        """Height and width of the frames must be multiples of this."""
        return self.down * (GRID_STRIDE if self.phi_mode == GRID else 1)

    @property
    def radius(self) -> int | None:
        if self.phi_mode == GLOBAL:
            return None
        # A coarse Φ looks at its neighbours, and is interpolated between them.
        dynamic = 2 * GRID_STRIDE + 1 if self.phi_mode == GRID else 1
        block = 12 if self.block_type == "drdb" else 2
        return self.down * (3 + dynamic + block * self.blocks + self.tail)


_CHOICES: dict[str, tuple[object, ...]] = {
    "phi_mode": (GLOBAL, GRID, PIXEL, STATIC),
    "phi_act": ("none", "tanh"),
    "q_kernel": (1, 3),
    "filter_input": ("frame", "concat"),
    "block_type": ("drdb", "res"),
    "down": (1, 2),
    "act": ("lrelu", "relu"),
    "tail": (1, 2),
    "input_mode": ("ldr+lin", "lin+lin1", "ldr"),
}


class Dsan(Network):
    """The network of one `DsanConfig`."""

    config: DsanConfig

    def __init__(self, config: DsanConfig) -> None:
        super().__init__()
        self.config = config
        width, area = config.channels, config.down**2
        self.features = conv3x3(_input_planes(config) * area, width)
        self.filter_short = DynamicConv(_filter_spec(config))
        self.filter_long = (
            self.filter_short if config.share_filters else DynamicConv(_filter_spec(config))
        )
        self.fuse = conv3x3(3 * width, width)
        block = DenseBlock if config.block_type == "drdb" else ResidualBlock
        self.blocks = nn.ModuleList(block(width) for _ in range(config.blocks))
        self.gather = nn.Conv2d(config.blocks * width, width, 1) if config.gff else None
        self.tail = conv3x3(width, width)
        self.tail_up = conv3x3(width, width) if config.tail == 2 else None
        self.out = conv3x3(width, config.output_planes * area)
        start_dark(self.out)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        """Linear HDR in [0, 1]; 1.0 = clip level of the shortest frame."""
        return torch.sigmoid(self.logit(short, mid, long))

    def logit(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        """The HDR frame before the sigmoid."""
        frames = [self.coded(frame) for frame in (short, mid, long)]
        f_short, f_mid, f_long = (self._features(frame, frames[0]) for frame in frames)
        g_short = self._filtered(self.filter_short, f_short, f_mid)
        g_long = self._filtered(self.filter_long, f_long, f_mid)
        body = self._between(self.fuse(torch.cat([g_short, f_mid, g_long], 1)))
        x = self.tail(self._reconstructed(body)) + f_mid
        if self.tail_up is not None:
            x = self.tail_up(x)
        x = self.out(self._between(x))
        return F.pixel_shuffle(x, 2) if self.config.down == 2 else x

    def _features(self, frame: Tensor, short: Tensor) -> Tensor:
        half = frame.shape[1] // 2
        if self.config.input_mode == "ldr":
            frame = frame[:, :half]
        elif self.config.input_mode == "lin+lin1":
            frame = torch.cat([short[:, half:], frame[:, half:]], 1)
        if self.config.down == 2:
            frame = F.pixel_unshuffle(frame, 2)
        return self._activated(self.features(frame))

    def _filtered(self, dynamic: DynamicConv, features: Tensor, reference: Tensor) -> Tensor:
        context = torch.cat([features, reference], 1)
        return dynamic(context if self.config.filter_input == "concat" else features, context)

    def _reconstructed(self, x: Tensor) -> Tensor:
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return x if self.gather is None else self.gather(torch.cat(outputs, 1))

    def _activated(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.1) if self.config.act == "lrelu" else F.relu(x)

    def _between(self, x: Tensor) -> Tensor:
        return self._activated(x) if self.config.act_between else x


def _filter_spec(config: DsanConfig) -> DynamicSpec:
    width = config.channels
    return DynamicSpec(
        channels=2 * width if config.filter_input == "concat" else width,
        out_channels=width,
        context=2 * width,
        latent=config.latent,
        block=config.block or config.latent,
        squeeze=config.squeeze,
        mode=config.phi_mode,
        bounded=config.phi_act == "tanh",
        q_kernel=config.q_kernel,
        scale_outputs=config.use_lambda,
    )


def _input_planes(config: DsanConfig) -> int:
    return config.planes // 2 if config.input_mode == "ldr" else config.planes
