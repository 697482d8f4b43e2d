"""MIL operators with weights or windows: convolutions, pools, products. Sizes are N×C×H×W."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pockethdr.runtime.mil.arguments import Arguments, last_axis_first, operator


@operator("conv")
def _conv(a: Arguments) -> Tensor:
    x, weight = a.tensor(), a.tensor("weight")
    axes = x.dim() - 2
    convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    strides, dilations = a.ints("strides", [1] * axes), a.ints("dilations", [1] * axes)
    pad = _padding(a, x.shape[2:], weight.shape[2:], strides, dilations)
    x = F.pad(x, last_axis_first(pad))
    return convolve(x, weight, a.optional("bias"), strides, 0, dilations, a.integer("groups", 1))


@operator("conv_transpose")
def _conv_transpose(a: Arguments) -> Tensor:
    x, weight = a.tensor(), a.tensor("weight")
    y = F.conv_transpose2d(
        x,
        weight,
        a.optional("bias"),
        a.ints("strides", [1, 1]),
        groups=a.integer("groups", 1),
        dilation=a.ints("dilations", [1, 1]),
    )
    return _crop_transposed(a, x, y)


def _crop_transposed(a: Arguments, x: Tensor, y: Tensor) -> Tensor:
    """Cut a full transposed convolution to what its padding and output shape ask for."""
    kind = a.text("pad_type", "valid")
    strides = a.ints("strides", [1, 1])
    if kind == "custom":
        top, bottom, left, right = a.ints("pad", [0, 0, 0, 0])
    elif kind == "same":
        sides = [
            _halves(max(0, full - size * stride))
            for full, size, stride in zip(y.shape[2:], x.shape[2:], strides, strict=True)
        ]
        (top, bottom), (left, right) = sides
    else:
        top = bottom = left = right = 0
    if "output_shape" in a:
        height, width = a.ints("output_shape")[-2:]
        # An output shape longer than the full convolution means output_padding: zeros and the bias.
        bottom, right = y.shape[2] - top - height, y.shape[3] - left - width
    y = y[:, :, top : y.shape[2] - max(bottom, 0), left : y.shape[3] - max(right, 0)]
    if bottom >= 0 and right >= 0:
        return y
    raise NotImplementedError("conv_transpose with output padding beyond the full convolution")


@operator("avg_pool")
def _avg_pool(a: Arguments) -> Tensor:
    x, pad = _pooled_input(a, 0.0)
    kernel, strides = a.ints("kernel_sizes"), _pool_strides(a)
    mean = F.avg_pool2d(x, kernel, strides, ceil_mode=a.flag("ceil_mode"))
    if not any(pad) or not a.flag("exclude_padding_from_average"):
        return mean
    inside = F.pad(torch.ones_like(a.tensor()), last_axis_first(pad))
    return mean / F.avg_pool2d(inside, kernel, strides, ceil_mode=a.flag("ceil_mode"))


@operator("max_pool")
def _max_pool(a: Arguments) -> Tensor:
    x, _ = _pooled_input(a, -torch.inf)
    return F.max_pool2d(x, a.ints("kernel_sizes"), _pool_strides(a), ceil_mode=a.flag("ceil_mode"))


def _pooled_input(a: Arguments, fill: float) -> tuple[Tensor, list[int]]:
    x = a.tensor()
    pad = _padding(a, x.shape[2:], a.ints("kernel_sizes"), _pool_strides(a), [1, 1])
    return F.pad(x, last_axis_first(pad), value=fill), pad


def _pool_strides(a: Arguments) -> list[int]:
    return a.ints("strides", [1, 1])


def _padding(
    a: Arguments,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Pad amounts before and after each axis (top, bottom, left, right), by MIL's `pad_type`."""
    kind = a.text("pad_type", "valid")
    if kind == "custom":
        return a.ints("pad", [0, 0] * len(size))
    if kind == "valid":
        return [0, 0] * len(size)
    pads: list[int] = []
    for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // stride) - 1) * stride + (k - 1) * dilation + 1 - n)
        before, after = _halves(total)
        pads += [after, before] if kind == "same_lower" else [before, after]
    return pads


def _halves(total: int) -> tuple[int, int]:
    return total // 2, total - total // 2


@operator("linear")
def _linear(a: Arguments) -> Tensor:
    return F.linear(a.tensor(), a.tensor("weight"), a.optional("bias"))


@operator("matmul")
def _matmul(a: Arguments) -> Tensor:
    x, y = a.tensor(), a.tensor("y")
    x = x.transpose(-1, -2) if a.flag("transpose_x") else x
    return x @ (y.transpose(-1, -2) if a.flag("transpose_y") else y)


@operator("einsum")
def _einsum(a: Arguments) -> Tensor:
    return torch.einsum(a.text("equation", ""), *a.tensors("values"))
