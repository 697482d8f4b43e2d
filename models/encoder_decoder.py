"""The encoder-decoder that DeepHDR and the benchmark's NHDRRNet have in common.

    a_i = Conv/2(X_i),  b_i = BN(Conv/2(lrelu(a_i)))               i = short, mid, long: own weights
    e   = BN(Conv/2(lrelu(concat(b_short, b_mid, b_long))))
    d_1 = BN(Up(ReLU(Merge(e)))),             at the size of b
    d_2 = BN(Up(ReLU(concat(d_1, b_i …)))),   at the size of a
    d_3 = BN(Up(ReLU(concat(d_2, a_i …)))),   at the size of X
    H   = sigmoid(Conv(ReLU(d_3)))

What Merge is, is what tells the two networks apart. At half resolution (`down` = 2) space-to-depth
and a convolution take the place of the first stride, and the last Up is a convolution before
depth-to-space: a 5×5 convolution of stride 2 is a 3×3 one after space-to-depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pockethdr.models.blocks import start_dark
from pockethdr.models.network import Network, NetworkConfig

SAME, REFLECT = "zeros", "reflect"


@dataclass(frozen=True)
class EncoderDecoderConfig(NetworkConfig):
    """The switches of the encoder-decoder; the defaults are the benchmark's.

    Attributes:
        widths: channels of a, b and e.
        blocks: of Merge.
        kernel: of the strided convolutions.
        up_kernel: of the transposed convolutions: 2, or 5 where the paper's overlap.
        out_kernel: of the convolutions at the output.
        padding: zeros, or reflect where the paper has it.
        slope: of the leaky ReLU in the encoders.
        norm: batch norm, as both papers have it. Without it the small networks learn faster, and
            brackets of noon and night share no statistics.
        head: sigmoid; or tanh, for a network that computes in [-1, 1] as DeepHDR's paper does:
            frames and HDR image are converted where they enter and leave.
        down: 2 runs everything at half resolution.
        dark: start at a dark image, as DSAN does.
    """

    widths: tuple[int, int, int] = (64, 128, 256)
    blocks: int = 9
    kernel: int = 5
    up_kernel: int = 2
    out_kernel: int = 5
    padding: str = SAME
    slope: float = 0.01
    norm: bool = True
    head: str = "sigmoid"
    down: int = 1
    dark: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        # JSON, as in the header of a weights file, has lists and no tuples.
        object.__setattr__(self, "widths", tuple(self.widths))
        self.check(
            kernel=(3, 5),
            up_kernel=(2, 5),
            out_kernel=(3, 5),
            padding=(SAME, REFLECT),
            head=("sigmoid", "tanh"),
            down=(1, 2),
        )

    @property
    def multiple(self) -> int:
        return 8  # at half resolution space-to-depth stands for the first of three strides

    def radius_with(self, merge: int) -> int:
        """The radius when Merge sees `merge` pixels of its own grid, from the output backwards."""
        up = self.up_kernel // 4  # what a transposed convolution sees of the coarser neighbours
        last = self.out_kernel // 2
        at_output = last if self.down == 1 else 2 * last
        coarse = ceil(at_output / 2) + up if self.down == 1 else at_output
        coarse = ceil(coarse / 2) + up  # of b
        coarse = ceil(coarse / 2) + up + merge  # of e
        side = self.kernel // 2
        fine = 2 * (2 * coarse + side) + side  # of a
        return 2 * fine + (side if self.down == 1 else 2 * side)


class EncoderDecoder(Network):
    """The network of one `EncoderDecoderConfig`.

    `merge` maps e, N×C×h×w, to N×2C×h×w.
    """

    config: EncoderDecoderConfig

    def __init__(self, config: EncoderDecoderConfig, merge: nn.Module) -> None:
        super().__init__()
        self.config = config
        a, b, e = config.widths
        self.encoder_short, self.encoder_mid, self.encoder_long = (
            Encoder(config) for _ in range(3)
        )
        self.join = SameConv(3 * b, e, config.kernel, 2, config.padding)
        self.join_norm = norm_of(e, config)
        self.merge = merge
        self.up_1 = _up(2 * e, b, config)
        self.up_2 = _up(4 * b, a, config)
        self.up_3 = _last_up(4 * a, a, config)
        area = config.down**2
        self.out = SameConv(a, config.output_planes * area, config.out_kernel, 1, config.padding)
        if config.dark:
            start_dark(self.out)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        """Linear HDR in [0, 1]; 1.0 = clip level of the shortest frame."""
        frames = [self._entered(frame) for frame in (short, mid, long)]
        encoders = (self.encoder_short, self.encoder_mid, self.encoder_long)
        fine, coarse = zip(
            *(encode(x) for encode, x in zip(encoders, frames, strict=True)), strict=True
        )
        joined = self.join(self._leaky(torch.cat(coarse, 1)))
        x = self.up_1(F.relu(self.merge(self.join_norm(joined))))
        x = self.up_2(F.relu(torch.cat([x, *coarse], 1)))
        x = self.up_3(F.relu(torch.cat([x, *fine], 1)))
        return self._left(self.out(F.relu(x)))

    def _entered(self, frame: Tensor) -> Tensor:
        frame = self.coded(frame)
        frame = 2 * frame - 1 if self.config.head == "tanh" else frame
        return F.pixel_unshuffle(frame, 2) if self.config.down == 2 else frame

    def _left(self, x: Tensor) -> Tensor:
        x = (torch.tanh(x) + 1) / 2 if self.config.head == "tanh" else torch.sigmoid(x)
        return F.pixel_shuffle(x, 2) if self.config.down == 2 else x

    def _leaky(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.config.slope)


class Encoder(nn.Module):
    """A frame → a and b, both before their activation, as the decoder wants them."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        fine, coarse, _ = config.widths
        planes, stride = config.planes * config.down**2, 2 // config.down
        self.slope = config.slope
        self.first = SameConv(planes, fine, config.kernel, stride, config.padding)
        self.second = SameConv(fine, coarse, config.kernel, 2, config.padding)
        self.norm = norm_of(coarse, config)

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.first(frame)
        return fine, self.norm(self.second(F.leaky_relu(fine, self.slope)))


class SameConv(nn.Conv2d):
    """A convolution that keeps H and W (stride 1) or halves them (stride 2).

    Zeros go around it evenly. Reflection follows TensorFlow's `SAME`: k - stride pixels, the odd
    one at the right and at the bottom.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, stride: int, padding: str
    ) -> None:
        around = kernel // 2 if padding == SAME else 0
        super().__init__(channels, out_channels, kernel, stride=stride, padding=around)
        before = (kernel - stride) // 2
        after = kernel - stride - before
        self.reflected = (before, after) * 2 if padding == REFLECT else None

    def forward(self, input: Tensor) -> Tensor:
        if self.reflected is not None:
            input = F.pad(input, self.reflected, mode="reflect")
        return super().forward(input)


def norm_of(channels: int, config: EncoderDecoderConfig) -> nn.Module:
    """Batch norm, or nothing."""
    return nn.BatchNorm2d(channels) if config.norm else nn.Identity()


def _up(channels: int, out_channels: int, config: EncoderDecoderConfig) -> nn.Sequential:
    """Twice the height and width, normalised."""
    kernel = config.up_kernel
    up = nn.ConvTranspose2d(
        channels, out_channels, kernel, 2, padding=(kernel - 1) // 2, output_padding=kernel % 2
    )
    return nn.Sequential(up, norm_of(out_channels, config))


def _last_up(channels: int, out_channels: int, config: EncoderDecoderConfig) -> nn.Sequential:
    if config.down == 1:
        return _up(channels, out_channels, config)
    conv = SameConv(channels, out_channels, config.out_kernel, 1, config.padding)
    return nn.Sequential(conv, norm_of(out_channels, config))
