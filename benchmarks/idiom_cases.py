"""Small untrained networks of one idiom each, for benchmarks/idioms.py.

An idiom stands between two 3×3 convolutions: of one feature map of 16 channels, or of one of each
frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

C = 16
Function = Callable[..., Tensor]


class Idiom(nn.Module):
    """`function(self, *feature maps)`, with `parts` as attributes."""

    def __init__(self, function: Function, parts: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *maps: Tensor) -> Tensor:
        return self.function(self, *maps)


class Around(nn.Module):
    """The network around an idiom: inside of joined frames, or where the features of each meet."""

    def __init__(self, idiom: nn.Module, *, joined: bool) -> None:
        super().__init__()
        self.idiom, self.joined = idiom, joined
        self.first = nn.Conv2d(24 if joined else 8, C, 3, padding=1)
        self.last = nn.Conv2d(C, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        frames = [torch.cat([short, mid, long], 1)] if self.joined else [short, mid, long]
        maps = [torch.relu(self.first(frame)) for frame in frames]
        return torch.sigmoid(self.last(self.idiom(*maps)))


def inside(function: Function, **parts: Any) -> Around:
    return Around(Idiom(function, parts), joined=True)


def between(function: Function, **parts: Any) -> Around:
    return Around(Idiom(function, parts), joined=False)


def layers(*parts: nn.Module) -> Around:
    return Around(nn.Sequential(*parts), joined=True)


def conv(cin: int = C, cout: int = C, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, **{"padding": kernel // 2, **options})


def weight(*size: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(size))


# ---- frames meet ---------------------------------------------------------------------------------


def _softmax_merge(m: Any, *maps: Tensor) -> Tensor:
    weights = torch.stack([m.weigh(x) for x in maps], 1).softmax(1)
    return (torch.stack(maps, 1) * weights).sum(1)


def _in_batch(m: Any, *maps: Tensor) -> Tensor:
    n, c, h, w = maps[0].shape
    return m.join(torch.relu(m.each(torch.cat(maps, 0))).reshape(n, 3 * c, h, w))


def _warp(m: Any, x: Tensor, mid: Tensor, _: Tensor) -> Tensor:
    flow, (h, w) = 2 * torch.tanh(m.flow(torch.cat([x, mid], 1))), x.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(h, dtype=x.dtype), torch.arange(w, dtype=x.dtype), indexing="ij"
    )
    at = (columns + flow[:, 0]) * 2 / (w - 1) - 1, (rows + flow[:, 1]) * 2 / (h - 1) - 1
    return F.grid_sample(x, torch.stack(at, -1), align_corners=True)


FRAMES: dict[str, Callable[[], nn.Module]] = {
    "weights by softmax over frames": lambda: between(_softmax_merge, weigh=conv()),
    "attention gate on the reference": lambda: between(
        lambda m, x, y, z: x * torch.sigmoid(m.gate(torch.cat([x, y], 1))) + y + z,
        gate=conv(2 * C, C),
    ),
    "maximum over stacked frames": lambda: between(lambda m, *x: torch.stack(x).max(0)[0]),
    "median of frames": lambda: between(lambda m, *x: torch.stack(x).median(0)[0]),
    "mask by torch.where": lambda: between(lambda m, x, y, z: torch.where(y > 0.1, x, z)),
    "frames along the batch": lambda: between(_in_batch, each=conv(), join=conv(3 * C, C)),
    "3-D convolution over frames": lambda: between(
        lambda m, *x: m.conv(torch.stack(x, 2)).flatten(1, 2),
        conv=nn.Conv3d(C, C, (3, 3, 3), padding=(0, 1, 1)),
    ),
    "cosine similarity": lambda: between(
        lambda m, x, y, z: x * F.cosine_similarity(x, y, 1).unsqueeze(1) + z
    ),
    "warping by grid_sample": lambda: between(_warp, flow=conv(2 * C, 2)),
}


# ---- kernels made from the input -----------------------------------------------------------------


def _low_rank(m: Any, x: Tensor) -> Tensor:
    phi = torch.tanh(m.phi(x.mean((2, 3)))).view(8, 8)
    kernel = m.w0 + torch.einsum("ol,lm,im->oi", m.p, phi, m.q)[..., None, None]
    return F.conv2d(x, kernel, padding=1)


def _experts(m: Any, x: Tensor) -> Tensor:
    shares = torch.softmax(m.choose(x.mean((2, 3))), 1)
    return F.conv2d(x, (shares.view(4, 1, 1, 1, 1) * m.experts).sum(0), padding=1)


def _modulated(m: Any, x: Tensor) -> Tensor:
    kernel = m.kernel * m.style(x.mean((2, 3)))[:, None, :, None, None]
    kernel = kernel * torch.rsqrt(kernel.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8)
    return F.conv2d(x, kernel[0], padding=1)


def _decomposed(m: Any, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    phi = m.phi(x.mean((2, 3))).view(n, 4, 4)
    latent = m.norm(m.q(x)).view(n, 4, h * w)
    return m.p((m.line(torch.bmm(phi, latent)) + latent).view(n, 4, h, w)) + m.w0(x)


def _predicted(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    windows = F.unfold(x, 3, padding=1).view(n, c, 9, h, w)
    return (windows * m.kernels(x).softmax(1).unsqueeze(1)).sum(2)


KERNELS: dict[str, Callable[[], nn.Module]] = {
    "W0 + P Φ Qᵀ (DSAN)": lambda: inside(
        _low_rank, phi=nn.Linear(C, 64), w0=weight(C, C, 3, 3), p=weight(C, 8), q=weight(C, 8)
    ),
    "attention over kernels (CondConv)": lambda: inside(
        _experts, choose=nn.Linear(C, 4), experts=weight(4, C, C, 3, 3)
    ),
    "modulation and demodulation": lambda: inside(
        _modulated, style=nn.Linear(C, C), kernel=weight(1, C, C, 3, 3)
    ),
    "dynamic convolution decomposition": lambda: inside(
        _decomposed,
        phi=nn.Linear(C, 16),
        q=conv(C, 4, 1),
        p=conv(4, C, 1),
        w0=conv(),
        norm=nn.BatchNorm2d(4),
        line=nn.BatchNorm1d(4),
    ),
    "a kernel for every pixel": lambda: inside(_predicted, kernels=conv(C, 9)),
}


# ---- attention -----------------------------------------------------------------------------------


def _windows(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    parts = m.qkv(x).view(n, 3, c, h // 8, 8, w // 8, 8).permute(1, 0, 3, 5, 4, 6, 2)
    q, k, v = parts.reshape(3, -1, 64, c)
    seen = (q @ k.transpose(1, 2) / c**0.5).softmax(-1) @ v
    return x + seen.view(n, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


def _shifted(m: Any, x: Tensor) -> Tensor:
    return torch.roll(_windows(m, torch.roll(x, (-4, -4), (2, 3))), (4, 4), (2, 3))


def _transposed(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    q, k, v = (part.reshape(n, 2, c // 2, h * w) for part in m.qkv(x).chunk(3, 1))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    return x + ((q @ k.transpose(2, 3)) * m.heat).softmax(-1).matmul(v).reshape(n, c, h, w)


def _block(m: Any, x: Tensor) -> Tensor:
    seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * torch.sigmoid(m.gate(seen))


def _efficient(m: Any, x: Tensor) -> Tensor:
    line = m.along(x.mean((2, 3)).unsqueeze(1))
    return x * torch.sigmoid(line).squeeze(1)[:, :, None, None]


ATTENTION: dict[str, Callable[[], nn.Module]] = {
    "windows (Swin)": lambda: inside(_windows, qkv=conv(C, 3 * C, 1)),
    "shifted windows": lambda: inside(_shifted, qkv=conv(C, 3 * C, 1)),
    "between channels (Restormer)": lambda: inside(
        _transposed, qkv=conv(C, 3 * C, 1), heat=weight(2, 1, 1)
    ),
    "squeeze and excitation": lambda: inside(
        lambda m, x: x * torch.sigmoid(m.up(torch.relu(m.down(F.adaptive_avg_pool2d(x, 1))))),
        down=conv(C, 4, 1),
        up=conv(4, C, 1),
    ),
    "CBAM": lambda: inside(_block, gate=conv(2, 1, 7)),
    "ECA": lambda: inside(_efficient, along=nn.Conv1d(1, 1, 3, padding=1)),
}


# ---- normalisation, activations ------------------------------------------------------------------


def _convnext(m: Any, x: Tensor) -> Tensor:
    y = m.norm(m.wide(x).permute(0, 2, 3, 1))
    return x + m.down(F.gelu(m.up(y))).permute(0, 3, 1, 2)


def _layer_norm(m: Any, x: Tensor) -> Tensor:
    apart = x - x.mean(1, keepdim=True)
    return m.scale * apart / torch.sqrt(apart.pow(2).mean(1, keepdim=True) + 1e-6)


_ACTIVATIONS = (
    *(nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU),
    *(nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
)

POINTWISE: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: layers(conv(), nn.BatchNorm2d(C), nn.ReLU()),
    "InstanceNorm": lambda: layers(conv(), nn.InstanceNorm2d(C, affine=True), nn.ReLU()),
    "GroupNorm": lambda: layers(conv(), nn.GroupNorm(4, C), nn.ReLU()),
    "LayerNorm over channels": lambda: inside(_layer_norm, scale=weight(C, 1, 1)),
    "ConvNeXt block": lambda: inside(
        _convnext,
        wide=conv(kernel=7, groups=C),
        norm=nn.LayerNorm(C),
        up=nn.Linear(C, 32),
        down=nn.Linear(32, C),
    ),
    "weight_norm": lambda: layers(nn.utils.parametrizations.weight_norm(conv())),
    "spectral_norm": lambda: layers(nn.utils.parametrizations.spectral_norm(conv())),
    **{
        kind.__name__: lambda kind=kind: layers(conv(), kind(), conv())  # type: ignore[misc]
        for kind in _ACTIVATIONS
    },
    "simple gate (NAFNet)": lambda: inside(
        lambda m, x: torch.mul(*m.wide(x).chunk(2, 1)), wide=conv(C, 2 * C)
    ),
    "gamma and logarithm": lambda: inside(
        lambda m, x: m.join(torch.cat([(x + 1e-4) ** (1 / 2.2), torch.log1p(5000 * x)], 1)),
        join=conv(2 * C, C),
    ),
}


# ---- sizes, padding, the whole image -------------------------------------------------------------


def _haar(m: Any, x: Tensor) -> Tensor:
    bands = m.bands(F.conv2d(x, m.haar, stride=2, groups=C))
    return F.conv_transpose2d(bands, m.haar, stride=2, groups=C)


_SIGNS = torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
_HAAR = (_SIGNS / 2).view(4, 1, 2, 2).repeat(C, 1, 1, 1)

LAYOUT: dict[str, Callable[[], nn.Module]] = {
    "strided convolution, bilinear": lambda: layers(
        conv(stride=2), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
    "bilinear with aligned corners": lambda: layers(
        conv(stride=2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    ),
    "max pooling, nearest": lambda: layers(nn.MaxPool2d(2), conv(), nn.Upsample(scale_factor=2)),
    "transposed convolution": lambda: layers(
        conv(stride=2), nn.ConvTranspose2d(C, C, 4, stride=2, padding=1)
    ),
    "PixelUnshuffle, PixelShuffle": lambda: layers(
        nn.PixelUnshuffle(2), conv(4 * C, 4 * C, 1), nn.PixelShuffle(2)
    ),
    "Haar wavelets": lambda: inside(_haar, bands=conv(4 * C, 4 * C, 1), haar=nn.Parameter(_HAAR)),
    "dilated and depthwise": lambda: layers(conv(padding=4, dilation=4), conv(groups=C)),
    "reflect padding": lambda: layers(conv(padding_mode="reflect")),
    "replicate padding": lambda: layers(conv(padding_mode="replicate")),
    "circular padding": lambda: layers(conv(padding_mode="circular")),
    "global features beside pixels": lambda: inside(
        lambda m, x: m.join(torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1)),
        join=conv(2 * C, C),
    ),
    "Fourier transform": lambda: inside(
        lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[2:])
    ),
}

GROUPS = {
    "Where frames meet": FRAMES,
    "Kernels made from the input": KERNELS,
    "Attention": ATTENTION,
    "Normalisation and activations": POINTWISE,
    "Sizes, borders, the whole image": LAYOUT,
}
