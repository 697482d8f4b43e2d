"""MIL operators that move values: shapes, slices, pads, and changes of resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pockethdr.runtime.mil.arguments import Arguments, last_axis_first, operator


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
    parts = a.tensors("values")
    axis = a.integer("axis") % parts[0].dim()
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


@operator("gather")
def _gather(a: Arguments) -> Tensor:
    """Whole slices of `x`: the axis becomes as many as `indices` has."""
    if a.integer("batch_dims"):
        raise NotImplementedError("gather with batch_dims")
    x, axis = a.tensor(), a.integer("axis") % a.tensor().dim()
    indices = _from_start(a.tensor("indices"), x.shape[axis])
    taken = x.index_select(axis, indices.reshape(-1))
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("gather_along_axis")
def _gather_along_axis(a: Arguments) -> Tensor:
    """A value of `x` for each of `indices`, which have its rank."""
    x, axis = a.tensor(), a.integer("axis")
    return torch.gather(x, axis, _from_start(a.tensor("indices"), x.shape[axis]))


def _from_start(indices: Tensor, length: int) -> Tensor:
    """Negative ones count from the end, which torch does not take."""
    indices = indices.long()
    return torch.where(indices < 0, indices + length, indices)


@operator("scatter_along_axis")
def _scatter_along_axis(a: Arguments) -> Tensor:
    data, indices, updates = a.tensor("data"), a.tensor("indices").long(), a.tensor("updates")
    axis, mode = a.integer("axis"), a.text("mode", "add")
    if mode == "update":
        return data.scatter(axis, indices, updates)
    if mode not in _SCATTERS:
        raise NotImplementedError(f"scatter_along_axis of mode {mode}")
    return data.scatter_reduce(axis, indices, updates, _SCATTERS[mode])


@operator("reverse")
def _reverse(a: Arguments) -> Tensor:
    x = a.tensor()
    return x.flip(a.ints("axes", range(x.dim())))


@operator("crop")
def _crop(a: Arguments) -> Tensor:
    (top, bottom), (left, right) = a.ints("crop_height"), a.ints("crop_width")
    return F.pad(a.tensor(), (-left, -right, -top, -bottom))


@operator("pad")
def _pad(a: Arguments) -> Tensor:
    x, pads, mode = a.tensor(), last_axis_first(a.ints("pad")), a.text("mode", "constant")
    if mode == "constant":
        return F.pad(x, pads, value=a.number("constant_val"))
    outer = pads[4:]
    if any(outer):
        raise NotImplementedError(f"pad of mode {mode} on more than two axes")
    return F.pad(x, pads[:4], mode=mode)


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


@operator("resample")
def _resample(a: Arguments) -> Tensor:
    """Values at coordinates N×H×W×2, as x and y in [-1, 1] over the input."""
    outside = {"constant": "zeros", "border": "border", "reflection": "reflection"}
    padding, kind = a.text("padding_mode", "constant"), a.text("coordinates_mode", "")
    if padding not in outside or a.number("padding_value") or kind != _FROM_MINUS_ONE:
        raise NotImplementedError(f"resample with {kind} coordinates and {padding} padding")
    return F.grid_sample(
        a.tensor(),
        a.tensor("coordinates"),
        a.text("sampling_mode", "bilinear"),
        outside[padding],
        a.flag("align_corners"),
    )


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


_SCATTERS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
_FROM_MINUS_ONE = "normalized_minus_one_to_one"
_ALIGN_CORNERS = {
    "STRICT_ALIGN_CORNERS": True,
    "ALIGN_CORNERS": True,
    "UNALIGN_CORNERS": False,
}
