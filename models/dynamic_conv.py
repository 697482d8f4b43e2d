"""The content-dependent filter of DSAN, written as it is trained.

    W(F') = W0 + P Φ(F') Qᵀ            W0: O×C×k×k, P: O×L, Φ: L×L, Q: C×L (or L×C×k×k)

Φ comes from the features F' of the frame and of the reference: one per image, or one per pixel.
With `block` b < L, Φ is block diagonal: L/b blocks of b×b. A 1×1 Q acts on the centre tap alone.
Source: Xiao et al., "Dynamic Spatial Aggregation Network for Joint Denoising and HDR Imaging";
the decomposition is that of Li et al., "Revisiting Dynamic Convolution via Matrix Decomposition".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GLOBAL, GRID, PIXEL, STATIC = "global", "grid", "pixel", "static"
GRID_STRIDE = 4


@dataclass(frozen=True)
class DynamicSpec:
    """Sizes and switches of one dynamic convolution.

    Attributes:
        context: channels of F'.
        squeeze: width of the layers that predict Φ.
        block: size of Φ's diagonal blocks; L for a full Φ.
        scale_outputs: DCD's Λ, a predicted factor in [0, 2] on each output of W0.
    """

    channels: int
    out_channels: int
    context: int
    latent: int
    block: int
    squeeze: int
    mode: str
    bounded: bool = True
    q_kernel: int = 1
    kernel: int = 3
    scale_outputs: bool = False

    @property
    def phi_values(self) -> int:
        return self.latent * self.block


class DynamicConv(nn.Module):
    """y = W(F') * x. `x` is B×C×H×W, `context` (F') is B×C'×H×W, y is B×O×H×W."""

    def __init__(self, spec: DynamicSpec) -> None:
        super().__init__()
        self.spec = spec
        self.fixed = nn.Conv2d(
            spec.channels, spec.out_channels, spec.kernel, padding=spec.kernel // 2
        )
        if spec.mode == STATIC:
            return
        groups, block = spec.latent // spec.block, spec.block
        self.expand = nn.Parameter(torch.empty(spec.out_channels, groups, block))
        self.compress = nn.Parameter(
            torch.empty(groups, block, spec.channels, spec.q_kernel, spec.q_kernel)
        )
        self.head = _HEADS[spec.mode](spec)
        self.reset()

    def reset(self) -> None:
        """Kaiming for P and Q; the head starts at Φ ≈ 0, so the filter starts as W0."""
        fan_in = self.compress[0, 0].numel()
        nn.init.normal_(self.compress, std=(1 / fan_in) ** 0.5)
        nn.init.normal_(self.expand, std=(1 / self.spec.latent) ** 0.5)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        if self.spec.mode == STATIC:
            return self.fixed(x)
        phi, scale = self.head(context)
        if self.spec.mode == GLOBAL:
            return _convolve_per_image(x, self.kernel(phi, scale), self.fixed.bias)
        return self._convolve_per_pixel(x, phi, scale)

    def kernel(self, phi: Tensor, scale: Tensor | None) -> Tensor:
        """W(F') of each image, B×O×C×k×k, from Φ: B×G×b×b and Λ: B×O or None."""
        fixed = self.fixed.weight
        if scale is not None:
            fixed = scale[:, :, None, None, None] * fixed
        change = torch.einsum("ogi,ngij,gjckl->nockl", self.expand, phi, self.compress)
        margin = (self.spec.kernel - self.spec.q_kernel) // 2
        return fixed + F.pad(change, [margin] * 4)

    def _convolve_per_pixel(self, x: Tensor, phi: Tensor, scale: Tensor | None) -> Tensor:
        """y(p) = Λ(p) (W0 * x)(p) + P Φ(p) (Qᵀ x)(p), with Φ: B×G×b×b×H×W."""
        latent = F.conv2d(x, self.compress.flatten(0, 1), padding=self.spec.q_kernel // 2)
        latent = latent.unflatten(1, self.compress.shape[:2])
        mixed = torch.einsum("ngijhw,ngjhw->ngihw", phi, latent)
        change = torch.einsum("ogi,ngihw->nohw", self.expand, mixed)
        fixed = self.fixed(x)
        return change + (fixed if scale is None else scale * fixed)


def _convolve_per_image(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve image n with kernel[n]: one grouped convolution, groups = batch."""
    batch, channels, height, width = x.shape
    out_channels, size = kernel.shape[1], kernel.shape[-1]
    y = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        kernel.reshape(batch * out_channels, channels, size, size),
        padding=size // 2,
        groups=batch,
    )
    y = y.reshape(batch, out_channels, height, width)
    return y if bias is None else y + bias[:, None, None]


class _Head(nn.Module):
    """Features F' → Φ: B×G×b×b[×H×W] and, when asked for, Λ: B×O[×H×W]."""

    phi: nn.Linear | nn.Conv2d
    scale: nn.Linear | nn.Conv2d | None

    def __init__(self, spec: DynamicSpec) -> None:
        super().__init__()
        self.spec = spec

    def squeezed(self, context: Tensor) -> Tensor:
        """The hidden features that Φ and Λ are read from."""
        raise NotImplementedError

    def _start_near_zero(self) -> None:
        for layer in (self.phi, self.scale):
            if layer is not None and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor | None]:
        squeezed = self.squeezed(context)
        phi = self.phi(squeezed)
        phi = torch.tanh(phi) if self.spec.bounded else phi
        scale = None if self.scale is None else _hard_gate(self.scale(squeezed))
        groups, block = self.spec.latent // self.spec.block, self.spec.block
        resized = self.resized(phi, context).unflatten(1, (groups, block, block))
        return resized, None if scale is None else self.resized(scale, context)

    def resized(self, values: Tensor, context: Tensor) -> Tensor:
        return values


class _GlobalHead(_Head):
    """Means of 2×2 cells, then two linear layers: one Φ per image."""

    def __init__(self, spec: DynamicSpec) -> None:
        super().__init__(spec)
        self.linear = nn.Linear(4 * spec.context, spec.squeeze, bias=False)
        self.gate = nn.Linear(spec.squeeze, spec.squeeze, bias=False)
        self.phi = nn.Linear(spec.squeeze, spec.phi_values)
        self.scale = nn.Linear(spec.squeeze, spec.out_channels) if spec.scale_outputs else None
        self._start_near_zero()

    def squeezed(self, context: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool2d(context, 2).flatten(1)
        hidden = self.linear(cells)
        return hidden * _hard_gate(self.gate(hidden))


class _PixelHead(_Head):
    """A 3×3 and a 1×1 convolution: one Φ per pixel."""

    def __init__(self, spec: DynamicSpec) -> None:
        super().__init__(spec)
        self.conv = nn.Conv2d(spec.context, spec.squeeze, 3, padding=1)
        self._add_outputs(spec)

    def _add_outputs(self, spec: DynamicSpec) -> None:
        self.phi = nn.Conv2d(spec.squeeze, spec.phi_values, 1)
        self.scale = nn.Conv2d(spec.squeeze, spec.out_channels, 1) if spec.scale_outputs else None
        self._start_near_zero()

    def squeezed(self, context: Tensor) -> Tensor:
        return F.relu(self.conv(context))


class _GridHead(_PixelHead):
    """Predicts Φ on a grid four times coarser, and interpolates it to each pixel."""

    def __init__(self, spec: DynamicSpec) -> None:
        _Head.__init__(self, spec)
        self.coarse = nn.Conv2d(spec.context, spec.squeeze, GRID_STRIDE, stride=GRID_STRIDE)
        self.conv = nn.Conv2d(spec.squeeze, spec.squeeze, 3, padding=1)
        self._add_outputs(spec)

    def squeezed(self, context: Tensor) -> Tensor:
        return F.relu(self.conv(F.relu(self.coarse(context))))

    def resized(self, values: Tensor, context: Tensor) -> Tensor:
        return F.interpolate(values, size=context.shape[-2:], mode="bilinear", align_corners=False)


def _hard_gate(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 3


_HEADS: dict[str, type[_Head]] = {GLOBAL: _GlobalHead, PIXEL: _PixelHead, GRID: _GridHead}
