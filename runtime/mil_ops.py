"""The operators of Core ML's ML programs (MIL), evaluated with torch.

The one file of this room that imports torch at its top: `mil.py` loads it when a package is run.
Semantics follow the MIL operator definitions of coremltools (iOS15 to iOS18). Sizes are N×C×H×W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Result = Tensor | Sequence[Tensor]
Operator = Callable[["Arguments"], Result]
OPERATORS: dict[str, Operator] = {}


class Arguments:
    """The arguments of one operation: tensors as torch tensors, the rest as plain Python values."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def tensor(self, name: str = "x") -> Tensor:
        value = self._values[name]
        return value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self else None

    def tensors(self, name: str) -> list[Tensor]:
        return [v if isinstance(v, Tensor) else torch.as_tensor(v) for v in self._values[name]]

    def ints(self, name: str, default: Sequence[int] = ()) -> list[int]:
        if name not in self:
            return list(default)
        return [int(v) for v in np.asarray(self._values[name]).reshape(-1)]

    def integer(self, name: str, default: int = 0) -> int:
        return self.ints(name, [default])[0]

    def number(self, name: str, default: float = 0.0) -> float:
        return float(np.asarray(self._values[name]).item()) if name in self else default

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(np.asarray(self._values[name]).item()) if name in self else default

    def flags(self, name: str, count: int) -> list[bool]:
        return [bool(v) for v in self.ints(name, [0] * count)]

    def text(self, name: str, default: str) -> str:
        return str(self._values[name]) if name in self else default


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Enter a function in the table under its MIL names."""

    def enter(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return enter


# --- convolutions and pools -------------------------------------------------------------------


@operator("conv")
def _conv(a: Arguments) -> Tensor:
    x, weight = a.tensor(), a.tensor("weight")
    strides, dilations = a.ints("strides", [1, 1]), a.ints("dilations", [1, 1])
    pad = _padding(a, x.shape[2:], weight.shape[2:], strides, dilations)
    x = F.pad(x, _last_axis_first(pad))
    return F.conv2d(x, weight, a.optional("bias"), strides, 0, dilations, a.integer("groups", 1))


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
    inside = F.pad(torch.ones_like(a.tensor()), _last_axis_first(pad))
    return mean / F.avg_pool2d(inside, kernel, strides, ceil_mode=a.flag("ceil_mode"))


@operator("max_pool")
def _max_pool(a: Arguments) -> Tensor:
    x, _ = _pooled_input(a, -torch.inf)
    return F.max_pool2d(x, a.ints("kernel_sizes"), _pool_strides(a), ceil_mode=a.flag("ceil_mode"))


def _pooled_input(a: Arguments, fill: float) -> tuple[Tensor, list[int]]:
    x = a.tensor()
    pad = _padding(a, x.shape[2:], a.ints("kernel_sizes"), _pool_strides(a), [1, 1])
    return F.pad(x, _last_axis_first(pad), value=fill), pad


def _pool_strides(a: Arguments) -> list[int]:
    return a.ints("strides", [1, 1])


def _padding(
    a: Arguments,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Pad amounts top, bottom, left, right, by MIL's `pad_type`."""
    kind = a.text("pad_type", "valid")
    if kind == "custom":
        return a.ints("pad", [0, 0, 0, 0])
    if kind == "valid":
        return [0, 0, 0, 0]
    pads: list[int] = []
    for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // stride) - 1) * stride + (k - 1) * dilation + 1 - n)
        before, after = _halves(total)
        pads += [after, before] if kind == "same_lower" else [before, after]
    return pads


def _halves(total: int) -> tuple[int, int]:
    return total // 2, total - total // 2


def _last_axis_first(pads: Sequence[int]) -> list[int]:
    """MIL lists pads first axis first, torch last axis first."""
    pairs = [list(pads[i : i + 2]) for i in range(0, len(pads), 2)]
    return [pad for pair in reversed(pairs) for pad in pair]


# --- products -----------------------------------------------------------------------------------


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


# --- elementwise --------------------------------------------------------------------------------


def _enter_unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    operator(name)(lambda a: function(a.tensor()))


def _enter_binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    operator(name)(lambda a: function(a.tensor(), a.tensor("y")))


_UNARY: dict[str, Callable[..., Any]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "softsign": F.softsign,
    "abs": torch.abs,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "sign": torch.sign,
    "logical_not": torch.logical_not,
    "identity": lambda x: x,
}
for _name, _unary in _UNARY.items():
    _enter_unary(_name, _unary)

_BINARY: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
}
for _name, _binary in _BINARY.items():
    _enter_binary(_name, _binary)


@operator("leaky_relu")
def _leaky_relu(a: Arguments) -> Tensor:
    return F.leaky_relu(a.tensor(), a.number("alpha"))


@operator("prelu")
def _prelu(a: Arguments) -> Tensor:
    return F.prelu(a.tensor(), a.tensor("alpha"))


@operator("elu")
def _elu(a: Arguments) -> Tensor:
    return F.elu(a.tensor(), a.number("alpha", 1.0))


@operator("softplus")
def _softplus(a: Arguments) -> Tensor:
    return F.softplus(a.tensor())


@operator("gelu")
def _gelu(a: Arguments) -> Tensor:
    exact = a.text("mode", "EXACT") == "EXACT"
    return F.gelu(a.tensor(), approximate="none" if exact else "tanh")


@operator("sigmoid_hard")
def _sigmoid_hard(a: Arguments) -> Tensor:
    return (a.number("alpha", 0.2) * a.tensor() + a.number("beta", 0.5)).clamp(0, 1)


@operator("thresholded_relu")
def _thresholded_relu(a: Arguments) -> Tensor:
    x = a.tensor()
    return torch.where(x >= a.number("alpha", 1.0), x, torch.zeros_like(x))


@operator("threshold")
def _threshold(a: Arguments) -> Tensor:
    return a.tensor().clamp(min=a.number("alpha"))


@operator("clip")
def _clip(a: Arguments) -> Tensor:
    return a.tensor().clamp(a.number("alpha"), a.number("beta", 1.0))


@operator("rsqrt")
def _rsqrt(a: Arguments) -> Tensor:
    return torch.rsqrt(a.tensor() + a.number("epsilon", 1e-12))


@operator("log")
def _log(a: Arguments) -> Tensor:
    return torch.log(a.tensor() + a.number("epsilon", 1e-45))


@operator("inverse")
def _inverse(a: Arguments) -> Tensor:
    return 1 / (a.tensor() + a.number("epsilon", 1e-4))


@operator("softmax")
def _softmax(a: Arguments) -> Tensor:
    return F.softmax(a.tensor(), a.integer("axis", -1))


@operator("select")
def _select(a: Arguments) -> Tensor:
    return torch.where(a.tensor("cond").bool(), a.tensor("a"), a.tensor("b"))


@operator("cast")
def _cast(a: Arguments) -> Tensor:
    x, kind = a.tensor(), a.text("dtype", "fp32")
    if kind == "fp16":
        return x.half().float()
    return x.to(_DTYPES[kind])


_DTYPES = {
    "fp32": torch.float32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
    "bool": torch.bool,
}


# --- shapes -------------------------------------------------------------------------------------


@operator("reshape")
def _reshape(a: Arguments) -> Tensor:
    return a.tensor().reshape(a.ints("shape"))


@operator("transpose")
def _transpose(a: Arguments) -> Tensor:
    return a.tensor().permute(a.ints("perm"))


@operator("expand_dims")
def _expand_dims(a: Arguments) -> Tensor:
    x, axes = a.tensor(), a.ints("axes")
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("squeeze")
def _squeeze(a: Arguments) -> Tensor:
    x = a.tensor()
    ones = [axis for axis in range(x.dim()) if x.shape[axis] == 1]
    return x.squeeze(tuple(a.ints("axes", ones)))


@operator("shape")
def _shape(a: Arguments) -> Tensor:
    return torch.tensor(a.tensor().shape, dtype=torch.int32)


@operator("tile")
def _tile(a: Arguments) -> Tensor:
    return a.tensor().repeat(a.ints("reps"))


@operator("concat")
def _concat(a: Arguments) -> Tensor:
    axis, parts = a.integer("axis"), a.tensors("values")
    if a.flag("interleave"):
        return torch.stack(parts, axis + 1).flatten(axis, axis + 1)
    return torch.cat(parts, axis)


@operator("stack")
def _stack(a: Arguments) -> Tensor:
    return torch.stack(a.tensors("values"), a.integer("axis"))


@operator("split")
def _split(a: Arguments) -> Sequence[Tensor]:
    x, axis = a.tensor(), a.integer("axis")
    if "split_sizes" in a:
        return torch.split(x, a.ints("split_sizes"), axis)
    return torch.split(x, x.shape[axis] // a.integer("num_splits", 1), axis)


@operator("slice_by_index")
def _slice_by_index(a: Arguments) -> Tensor:
    x = a.tensor()
    rank = x.dim()
    begin, end = a.ints("begin"), a.ints("end")
    strides = a.ints("stride", [1] * rank)
    begin_mask, end_mask = a.flags("begin_mask", rank), a.flags("end_mask", rank)
    squeezed = a.flags("squeeze_mask", rank)
    for axis in range(rank):
        first = None if begin_mask[axis] else begin[axis]
        last = None if end_mask[axis] else end[axis]
        if squeezed[axis]:
            last = begin[axis] + 1 or None
        indices = range(x.shape[axis])[slice(first, last, strides[axis])]
        x = _taken(x, axis, indices)
    return x.squeeze(tuple(axis for axis in range(rank) if squeezed[axis]))


@operator("slice_by_size")
def _slice_by_size(a: Arguments) -> Tensor:
    x = a.tensor()
    for axis, (begin, size) in enumerate(zip(a.ints("begin"), a.ints("size"), strict=True)):
        length = x.shape[axis] - begin if size < 0 else size
        x = x.narrow(axis, begin, length)
    return x


def _taken(x: Tensor, axis: int, indices: range) -> Tensor:
    """`x` at `indices` of one axis; torch slices cannot step backwards."""
    if indices.step > 0:
        cut = [slice(None)] * x.dim()
        cut[axis] = slice(indices.start, indices.stop, indices.step)
        return x[tuple(cut)]
    return x.index_select(axis, torch.tensor(list(indices)))


@operator("gather", "gather_along_axis")
def _gather(a: Arguments) -> Tensor:
    x, indices, axis = a.tensor(), a.tensor("indices").long(), a.integer("axis")
    if indices.dim() == x.dim() and x.dim() > 1:
        return torch.gather(x, axis, indices)
    taken = x.index_select(axis, indices.reshape(-1))
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("pad")
def _pad(a: Arguments) -> Tensor:
    x, pads, mode = a.tensor(), _last_axis_first(a.ints("pad")), a.text("mode", "constant")
    if mode == "constant":
        return F.pad(x, pads, value=a.number("constant_val"))
    outer = pads[4:]
    if any(outer):
        raise NotImplementedError(f"pad of mode {mode} on more than two axes")
    return F.pad(x, pads[:4], mode=mode)


# --- resolution ---------------------------------------------------------------------------------


@operator("pixel_shuffle")
def _pixel_shuffle(a: Arguments) -> Tensor:
    return F.pixel_shuffle(a.tensor(), a.integer("upscale_factor", 1))


@operator("pixel_unshuffle")
def _pixel_unshuffle(a: Arguments) -> Tensor:
    return F.pixel_unshuffle(a.tensor(), a.integer("downscale_factor", 1))


@operator("depth_to_space")
def _depth_to_space(a: Arguments) -> Tensor:
    """As pixel shuffle, but the block's position is the slow part of the channel index."""
    x, block = a.tensor(), a.integer("block_size", 1)
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // block**2, h * block, w * block)


@operator("space_to_depth")
def _space_to_depth(a: Arguments) -> Tensor:
    """The inverse of depth to space."""
    x, block = a.tensor(), a.integer("block_size", 1)
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * block**2, h // block, w // block)


@operator("upsample_bilinear")
def _upsample_bilinear(a: Arguments) -> Tensor:
    corners = a.flag("align_corners", True)
    if not corners and not a.flag("half_pixel_centers", True):
        raise NotImplementedError("upsample_bilinear with neither corners nor half pixels aligned")
    return F.interpolate(
        a.tensor(), scale_factor=_scales(a), mode="bilinear", align_corners=corners
    )


@operator("upsample_nearest_neighbor")
def _upsample_nearest(a: Arguments) -> Tensor:
    return F.interpolate(a.tensor(), scale_factor=_scales(a), mode="nearest")


def _scales(a: Arguments) -> tuple[float, float]:
    return a.number("scale_factor_height", 1.0), a.number("scale_factor_width", 1.0)


@operator("resize_bilinear")
def _resize_bilinear(a: Arguments) -> Tensor:
    mode = a.text("sampling_mode", "DEFAULT")
    if mode not in _ALIGN_CORNERS:
        raise NotImplementedError(f"resize_bilinear with sampling mode {mode}")
    size = _target_size(a)
    return F.interpolate(a.tensor(), size=size, mode="bilinear", align_corners=_ALIGN_CORNERS[mode])


@operator("resize_nearest_neighbor")
def _resize_nearest(a: Arguments) -> Tensor:
    return F.interpolate(a.tensor(), size=_target_size(a), mode="nearest")


def _target_size(a: Arguments) -> tuple[int, int]:
    return a.integer("target_size_height"), a.integer("target_size_width")


_ALIGN_CORNERS = {
    "STRICT_ALIGN_CORNERS": True,
    "ALIGN_CORNERS": True,
    "UNALIGN_CORNERS": False,
}


# --- reductions and norms -----------------------------------------------------------------------


def _enter_reduction(name: str, function: Callable[..., Tensor]) -> None:
    def reduce(a: Arguments) -> Tensor:
        x = a.tensor()
        axes = a.ints("axes", list(range(x.dim())))
        return function(x, axes, keepdim=a.flag("keep_dims"))

    operator(name)(reduce)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_mean": torch.mean,
    "reduce_sum": torch.sum,
    "reduce_max": torch.amax,
    "reduce_min": torch.amin,
}
for _name, _reduction in _REDUCTIONS.items():
    _enter_reduction(_name, _reduction)


@operator("reduce_sum_square")
def _reduce_sum_square(a: Arguments) -> Tensor:
    x = a.tensor().square()
    return x.sum(a.ints("axes", list(range(x.dim()))), keepdim=a.flag("keep_dims"))


@operator("layer_norm")
def _layer_norm(a: Arguments) -> Tensor:
    x = a.tensor()
    axes = a.ints("axes", list(range(x.dim())))
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + a.number("epsilon", 1e-5))
    shape = [x.shape[i] if i in {axis % x.dim() for axis in axes} else 1 for i in range(x.dim())]
    y = y * a.tensor("gamma").reshape(shape) if "gamma" in a else y
    return y + a.tensor("beta").reshape(shape) if "beta" in a else y


@operator("instance_norm")
def _instance_norm(a: Arguments) -> Tensor:
    return F.instance_norm(
        a.tensor(),
        weight=a.optional("gamma"),
        bias=a.optional("beta"),
        eps=a.number("epsilon", 1e-5),
    )


@operator("batch_norm")
def _batch_norm(a: Arguments) -> Tensor:
    return F.batch_norm(
        a.tensor(),
        a.tensor("mean"),
        a.tensor("variance"),
        a.optional("gamma"),
        a.optional("beta"),
        eps=a.number("epsilon", 1e-5),
    )


# --- quantization -------------------------------------------------------------------------------


@operator("quantize")
def _quantize(a: Arguments) -> Tensor:
    """clip(round(x / scale) + zero point), rounding half to even. Codes are kept as float32."""
    x = a.tensor("input")
    scale, zero_point = _coding(a, x)
    low, high = (-128, 127) if a.text("output_dtype", "int8") == "int8" else (0, 255)
    return (torch.round(x / scale) + zero_point).clamp(low, high)


@operator("dequantize")
def _dequantize(a: Arguments) -> Tensor:
    codes = a.tensor("input").float()
    scale, zero_point = _coding(a, codes)
    return (codes - zero_point) * scale


def _coding(a: Arguments, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point, shaped to broadcast along `axis` when they differ per channel."""
    scale = a.tensor("scale").float()
    zero_point = a.tensor("zero_point").float() if "zero_point" in a else torch.zeros_like(scale)
    if scale.numel() == 1:
        return scale.reshape(()), zero_point.reshape(-1)[0]
    shape = [1] * x.dim()
    shape[a.integer("axis")] = -1
    return scale.reshape(shape), zero_point.expand_as(scale).reshape(shape)
