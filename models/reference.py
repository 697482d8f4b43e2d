"""The per-pixel dynamic convolution as the paper writes it: a whole kernel for every pixel.

    W(p) = W0 + P Φ(p) Qᵀ,    y(p) = Σ_{c,k} W(p)[c, k] · x[c, p + k]

Memory is k²·C·O values a pixel, so this serves tests and the benchmark, on small images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pockethdr.models.dsan import Dsan
from pockethdr.models.dynamic_conv import GLOBAL, STATIC, DynamicConv


class PerPixelKernels(nn.Module):
    """Same weights and result as the per-pixel `DynamicConv` it wraps."""

    def __init__(self, dynamic: DynamicConv) -> None:
        super().__init__()
        if dynamic.spec.mode in (GLOBAL, STATIC):
            raise ValueError(f"a {dynamic.spec.mode} filter has no kernel per pixel")
        self.dynamic = dynamic

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """B×C×H×W and B×C'×H×W → B×O×H×W."""
        phi, scale = self.dynamic.head(context)
        if scale is not None:
            scale = scale.flatten(2)
        size = self.dynamic.spec.kernel
        patches = F.unfold(x, size, padding=size // 2)
        y = (self._kernels(phi.flatten(4), scale) * patches[:, None]).sum(2)
        bias = self.dynamic.fixed.bias
        assert bias is not None
        offset = bias[:, None]
        y = y + (offset if scale is None else scale * offset)
        return y.unflatten(2, x.shape[2:])

    def _kernels(self, phi: Tensor, scale: Tensor | None) -> Tensor:
        """W(p), B×O×(C·k·k)×P, from Φ: B×G×b×b×P, for P = H·W pixels."""
        spec, dynamic = self.dynamic.spec, self.dynamic
        margin = (spec.kernel - spec.q_kernel) // 2
        compress = F.pad(dynamic.compress, [margin] * 4).flatten(2)
        left = torch.einsum("ogi,ngijp->nogjp", dynamic.expand, phi)
        change = torch.einsum("nogjp,gjm->nomp", left, compress)
        fixed = dynamic.fixed.weight.flatten(1)[None, :, :, None]
        return change + (fixed if scale is None else scale[:, :, None] * fixed)


def with_kernels_per_pixel(network: Dsan) -> Dsan:
    """Replace the network's two dynamic filters by their reference, in place."""
    short = PerPixelKernels(network.filter_short)
    shared = network.filter_long is network.filter_short
    network.filter_long = short if shared else PerPixelKernels(network.filter_long)  # type: ignore[assignment]
    network.filter_short = short  # type: ignore[assignment]
    return network
