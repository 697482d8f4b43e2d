"""Dynamic convolutions as their authors, or users, wrote them: nothing here knows of PocketHDR.

Each layer maps N×C×H×W to N×C'×H'×W' and builds its kernel from its input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DcdPaper(nn.Module):
    """DCD (ICLR 2021) as in its code: Λ(x)·W0 x + P(norm(Φ(x)·z) + z), Φ on the latent by bmm."""

    def __init__(self, c: int = 16, out: int = 16, k: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.latent = latent = 4
        self.static = nn.Conv2d(c, out, k, stride, k // 2, bias=False)
        self.q = nn.Conv2d(c, latent, 1, stride, bias=False)
        self.p = nn.Conv2d(latent, out, 1, bias=False)
        self.norm, self.norm_of_product = nn.BatchNorm2d(latent), nn.BatchNorm1d(latent)
        for norm in (self.norm, self.norm_of_product):
            nn.init.normal_(norm.running_mean)
        self.fc = nn.Sequential(nn.Linear(c, 8, bias=False), nn.ReLU(inplace=True))
        self.phi, self.scale = nn.Linear(8, latent**2, bias=False), nn.Linear(8, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        context = self.fc(F.adaptive_avg_pool2d(x, 1).view(b, -1))
        phi = self.phi(context).view(b, self.latent, self.latent)
        scale = (F.relu6(self.scale(context) + 3) / 3).view(b, -1, 1, 1)
        z = self.norm(self.q(x))
        _, _, h, w = z.size()
        y = z.view(b, self.latent, -1)
        y = self.norm_of_product(torch.bmm(phi, y)) + y
        return scale.expand(b, -1, h, w) * self.static(x) + self.p(y.view(b, -1, h, w))


class EinsumKernel(nn.Module):
    """W0 + P Φ Qᵀ by einsum, kernel built for each image, convolved by groups = batch."""

    def __init__(
        self, c: int = 16, out: int = 16, k: int = 3, *, stride: int = 1, dilation: int = 1,
        groups: int = 1, bias: bool = True, wide_q: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        latent, inner = 4, c // groups
        self.w0 = nn.Parameter(torch.randn(out, inner, k, k) / 10)
        self.p = nn.Parameter(torch.randn(out, latent) / 4)
        q = (latent, inner, k, k) if wide_q else (latent, inner)
        self.q = nn.Parameter(torch.randn(q) / 4)
        self.bias = nn.Parameter(torch.randn(out)) if bias else None
        self.head = nn.Sequential(nn.Linear(c, 8), nn.ReLU(), nn.Linear(8, latent**2), nn.Tanh())
        self.stride, self.dilation, self.groups, self.latent = stride, dilation, groups, latent

    def kernel(self, x: Tensor) -> Tensor:
        phi = self.head(x.mean((2, 3))).view(-1, self.latent, self.latent)
        if self.q.dim() == 4:
            return self.w0 + torch.einsum("ol,blm,mihw->boihw", self.p, phi, self.q)
        delta = torch.einsum("ol,blm,mi->boi", self.p, phi, self.q)
        k = self.w0.shape[-1] // 2
        return self.w0 + F.pad(delta[..., None, None], (k, k, k, k))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        weight = self.kernel(x).flatten(0, 1)
        pad = self.dilation * (self.w0.shape[-1] // 2)
        y = F.conv2d(
            x.reshape(1, b * c, h, w), weight, None, self.stride, pad, self.dilation,
            b * self.groups,
        )  # fmt: skip
        y = y.view(b, -1, *y.shape[2:])
        return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)


class BmmKernel(nn.Module):
    """P Φ Qᵀ by two bmm, added to the centre tap by indexing through a mask."""

    def __init__(self, c: int = 16, latent: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.p, self.q = nn.Parameter(torch.randn(c, latent)), nn.Parameter(torch.randn(c, latent))
        self.fc, self.latent = nn.Linear(4 * c, latent * latent), latent
        centre = torch.zeros(3, 3)
        centre[1, 1] = 1
        self.register_buffer("centre", centre)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        phi = self.fc(F.adaptive_avg_pool2d(x, 2).flatten(1)).reshape(b, self.latent, self.latent)
        left = torch.bmm(self.p.unsqueeze(0).expand(b, -1, -1), phi)
        delta = torch.bmm(left, self.q.t().unsqueeze(0).repeat(b, 1, 1))
        weight = self.conv.weight.unsqueeze(0) + delta[..., None, None] * self.centre
        y = F.conv2d(
            x.view(1, b * c, h, w), weight.view(b * c, c, 3, 3),
            self.conv.bias.repeat(b), padding=1, groups=b,
        )  # fmt: skip
        return y.view(b, c, h, w)


class LinearKernel(nn.Module):
    """A hypernetwork: the kernel of the one image is F.linear of a code, viewed as a kernel."""

    def __init__(self, c: int = 8, code: int = 3) -> None:
        super().__init__()
        self.c, self.encode = c, nn.Linear(c, code)
        self.basis = nn.Parameter(torch.randn(c * c * 9, code) / 8)
        self.base = nn.Parameter(torch.randn(c * c * 9) / 8)

    def forward(self, x: Tensor) -> Tensor:
        code = torch.sigmoid(self.encode(x.mean(dim=(2, 3))))
        weight = F.linear(code, self.basis, self.base).view(self.c, self.c, 3, 3)
        return F.conv2d(x, weight, padding=1)


class CondConv(nn.Module):
    """Σ_k α_k W_k with a bias for each expert (CondConv 2019, Dynamic Convolution 2020)."""

    def __init__(self, c: int = 16, out: int = 16, experts: int = 4, k: int = 3) -> None:
        super().__init__()
        self.route = nn.Linear(c, experts)
        self.weight = nn.Parameter(torch.randn(experts, out, c, k, k) / 10)
        self.bias = nn.Parameter(torch.randn(experts, out))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        alpha = torch.softmax(self.route(x.mean((2, 3))) / 30, 1)
        experts, out = self.bias.shape
        weight = torch.mm(alpha, self.weight.view(experts, -1)).view(
            b * out, c, *self.weight.shape[3:]
        )
        bias = torch.mm(alpha, self.bias).view(-1)
        pad = self.weight.shape[-1] // 2
        y = F.conv2d(x.view(1, -1, h, w), weight, bias, padding=pad, groups=b)
        return y.view(b, out, *y.shape[-2:])


class ModulatedConv(nn.Module):
    """StyleGAN2's modulation, with demodulation: w'' = s w / sqrt(Σ (s w)² + ε)."""

    def __init__(self, c: int = 8, out: int = 12, *, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out, c, 3, 3))
        self.style, self.demodulate = nn.Linear(c, c), demodulate

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        style = self.style(x.mean((2, 3))).view(b, 1, c, 1, 1) + 1
        weight = self.weight * style
        if self.demodulate:
            demod = torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8)
            weight = weight * demod.view(b, -1, 1, 1, 1)
        out = weight.shape[1]
        y = F.conv2d(x.view(1, b * c, h, w), weight.view(b * out, c, 3, 3), padding=1, groups=b)
        return y.view(b, out, h, w)


class ScaledKernel(nn.Module):
    """Λ_out(x) (W0 + P Φ Qᵀ) Λ_in(x): DCD's Λ on both sides of a low-rank kernel, one image."""

    def __init__(self, c: int = 8) -> None:
        super().__init__()
        self.w0 = nn.Parameter(torch.randn(c, c, 3, 3))
        self.p, self.q = nn.Parameter(torch.randn(c, 2)), nn.Parameter(torch.randn(2, c))
        self.phi, self.left, self.right = nn.Linear(c, 4), nn.Linear(c, c), nn.Linear(c, c)

    def forward(self, x: Tensor) -> Tensor:
        a = x.mean((2, 3))
        delta = self.p @ self.phi(a).tanh().view(2, 2) @ self.q
        weight = self.w0 + F.pad(delta.view(*delta.shape, 1, 1), (1, 1, 1, 1))
        left, right = self.left(a).sigmoid(), self.right(a).sigmoid()
        return F.conv2d(x, left.view(-1, 1, 1, 1) * weight * right.view(1, -1, 1, 1), padding=1)


class BlockDiagonal(nn.Module):
    """Φ = blockdiag(Φ_1 … Φ_g), assembled with torch.block_diag or by a blocked einsum."""

    def __init__(self, c: int = 16, blocks: int = 2, size: int = 3, *, assembled: bool) -> None:
        super().__init__()
        self.assembled, self.blocks, self.size = assembled, blocks, size
        self.w0 = nn.Conv2d(c, c, 3, padding=1)
        self.p = nn.Parameter(torch.randn(c, blocks * size))
        self.q = nn.Parameter(torch.randn(blocks * size, c))
        self.fc = nn.Linear(c, blocks * size * size)

    def forward(self, x: Tensor) -> Tensor:
        phi = torch.tanh(self.fc(x.mean((2, 3)))).view(self.blocks, self.size, self.size)
        if self.assembled:
            delta = self.p @ torch.block_diag(*phi.unbind(0)) @ self.q
        else:
            p, q = self.p.view(-1, *phi.shape[:2]), self.q.view(*phi.shape[:2], -1)
            delta = torch.einsum("ogl,glm,gmi->oi", p, phi, q)
        weight = self.w0.weight + F.pad(delta[:, :, None, None], (1, 1, 1, 1))
        return F.conv2d(x, weight, self.w0.bias, padding=1)


class PixelEinsum(nn.Module):
    """Per-pixel Φ on the latent, by einsum: y(p) = W0 x + P Φ(p) Qᵀ x."""

    def __init__(self, c: int = 16, latent: int = 4, *, layout: str = "nchw") -> None:
        super().__init__()
        self.w0 = nn.Conv2d(c, c, 3, padding=1)
        self.q, self.p = nn.Conv2d(c, latent, 1, bias=False), nn.Conv2d(latent, c, 1, bias=False)
        self.head, self.latent, self.layout = nn.Conv2d(c, latent**2, 3, padding=1), latent, layout

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        phi, z = self.head(x).tanh(), self.q(x)
        if self.layout == "nchw":
            phi = phi.view(b, self.latent, self.latent, h, w)
            u = torch.einsum("blmhw,bmhw->blhw", phi, z)
        elif self.layout == "mulsum":
            u = (phi.view(b, self.latent, self.latent, h, w) * z.unsqueeze(1)).sum(2)
        else:  # channels last: a matrix product at each pixel
            phi = phi.permute(0, 2, 3, 1).reshape(b, h * w, self.latent, self.latent)
            u = phi @ z.flatten(2).transpose(1, 2).unsqueeze(-1)
            u = u.squeeze(-1).transpose(1, 2).reshape(b, self.latent, h, w)
        return self.w0(x) + self.p(u)


class PixelUnfold(nn.Module):
    """The whole kernel at every pixel: W(p) = W0 + P Φ(p) Qᵀ applied to unfolded windows."""

    def __init__(self, c: int = 6, latent: int = 2) -> None:
        super().__init__()
        self.c, self.latent = c, latent
        self.w0 = nn.Parameter(torch.randn(c, c * 9))
        self.p, self.q = (
            nn.Parameter(torch.randn(c, latent)),
            nn.Parameter(torch.randn(latent, c * 9)),
        )
        self.head = nn.Conv2d(c, latent**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        phi = self.head(x).tanh().view(b, self.latent, self.latent, h * w)
        kernel = self.w0[None, :, :, None] + torch.einsum("ol,blmn,mk->bokn", self.p, phi, self.q)
        windows = F.unfold(x, 3, padding=1)
        return torch.einsum("bokn,bkn->bon", kernel, windows).view(b, c, h, w)


class DynamicDepthwise(nn.Module):
    """A depthwise kernel whose nine taps come from the image: exact, one latent channel a tap."""

    def __init__(self, c: int = 8) -> None:
        super().__init__()
        self.c, self.fc = c, nn.Linear(c, 9 * c)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.fc(x.mean((2, 3))).view(self.c, 1, 3, 3).softmax(0)
        return F.conv2d(x, weight, padding=1, groups=self.c)


class Involution(nn.Module):
    """Involution (CVPR 2021): a 3×3 kernel for each pixel and group, shared by its channels."""

    def __init__(self, c: int = 8, groups: int = 2) -> None:
        super().__init__()
        self.groups, self.span = groups, nn.Conv2d(c, 9 * groups, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        kernel = self.span(x).tanh().view(b, self.groups, 1, 9, h, w)
        windows = F.unfold(x, 3, padding=1).view(b, self.groups, -1, 9, h, w)
        return (kernel * windows).sum(3).view(b, c, h, w)


class OdConv(nn.Module):
    """ODConv (ICLR 2022): Σ_k α_k W_k scaled tap by tap; c² · 9 values for each of the experts."""

    def __init__(self, c: int = 8, experts: int = 4, *, rectified: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, c, c, 3, 3) / 10)
        self.taps, self.experts, self.rectified = nn.Linear(c, 9), nn.Linear(c, experts), rectified

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        context = x.mean((2, 3))
        taps = torch.sigmoid(self.taps(context)).view(b, 1, 1, 1, 3, 3)
        alpha = torch.softmax(self.experts(context), 1).view(b, -1, 1, 1, 1, 1)
        kernels = taps * alpha * self.weight
        weight = (kernels.relu() if self.rectified else kernels).sum(1).view(b * c, c, 3, 3)
        return F.conv2d(x.view(1, b * c, h, w), weight, padding=1, groups=b).view(b, c, h, w)


class Spelled(nn.Module):
    """Σ_k α_k W_k for the one image, its kernel written in one of many linear ways.

    Args:
        write: α (4) and W (of `shape`) to a kernel 8×8×k×k.
    """

    def __init__(
        self, write: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...] = (4, 8, 8, 3, 3)
    ) -> None:
        super().__init__()
        self.route, self.write = nn.Linear(8, 4), write
        self.weight = nn.Parameter(torch.randn(shape) / 10)

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.route(x.mean((2, 3))).softmax(1)[0]
        return F.conv2d(x, self.write(alpha, self.weight), padding=1)


class FreeKernel(nn.Module):
    """A kernel pushed through a softmax: not low-rank, to be refused."""

    def __init__(self, c: int = 24) -> None:
        super().__init__()
        self.c, self.fc = c, nn.Linear(c, c * c * 9)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.softmax(self.fc(x.mean((2, 3))).view(self.c, self.c, 9), -1)
        return F.conv2d(x, weight.view(self.c, self.c, 3, 3), padding=1)


class ChannelAttention(nn.Module):
    """Restormer's transposed attention: a free C×C matrix on the channels, best left a product."""

    def __init__(self, c: int = 24) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(c, 3 * c, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).view(b, 3, c, h * w).unbind(1)
        weights = torch.softmax(q @ k.transpose(1, 2), -1)
        return (weights @ v).view(b, c, h, w)


class Attention(nn.Module):
    """Non-local attention: products of activations that are no convolution, to be left alone."""

    def __init__(self, c: int = 8) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(c, 3 * c, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).view(b, 3, c, h * w).unbind(1)
        weights = torch.softmax(q.transpose(1, 2) @ k / c**0.5, -1)
        return (v @ weights.transpose(1, 2)).view(b, c, h, w) + x
