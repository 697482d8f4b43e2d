"""Rules of expansion for operators that move elements: views, cuts, repetitions, concatenations.

See `expand_rules` for what a rule is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from pockethdr.export import algebra
from pockethdr.export.algebra import Axis, NotAligned, Value
from pockethdr.export.aten import aten

if TYPE_CHECKING:
    from pockethdr.export.expand import Expansion

Rule = Callable[["Expansion", dict[str, Any]], Value]

#: A selection over a longer axis is a feature map being cut, not a kernel being assembled.
MAX_SELECTED = 4096


def _same(ex: Expansion, a: dict[str, Any]) -> Value:
    return ex.operand(a["self"])


def _cast(ex: Expansion, a: dict[str, Any]) -> Value:
    """Another precision is the same value; integers and truth values are not."""
    wanted = a.get("dtype") or a.get("other", a["self"]).meta["val"].dtype
    if not (wanted.is_floating_point and a["self"].meta["val"].is_floating_point()):
        raise NotAligned("a conversion to or from integers")
    return ex.operand(a["self"])


def _reshape(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    size = [int(n) for n in (a["size"] if "size" in a else a["shape"])]
    if -1 in size:
        size[size.index(-1)] = algebra.size_of(value.labels) // -math.prod(size)
    return algebra.reshape(value, size)


def _flatten(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    rank = len(value.axes)
    first, last = a["start_dim"] % rank, a["end_dim"] % rank
    merged = math.prod(value.shape[first : last + 1])
    return algebra.reshape(value, [*value.shape[:first], merged, *value.shape[last + 1 :]])


def _unflatten(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dim, sizes = a["dim"] % len(value.axes), list(a["sizes"])
    if -1 in sizes:
        sizes[sizes.index(-1)] = value.shape[dim] // -math.prod(sizes)
    return algebra.reshape(value, [*value.shape[:dim], *sizes, *value.shape[dim + 1 :]])


def _permute(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    return algebra.permute(value, [d % len(value.axes) for d in a["dims"]])


def _transpose(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    rank = len(value.axes)
    order = list(range(rank))
    i, j = (a.get("dim0", 0) % rank, a.get("dim1", 1) % rank) if rank > 1 else (0, 0)
    order[i], order[j] = order[j], order[i]
    return algebra.permute(value, order)


def _reversed(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    return algebra.permute(value, range(len(value.axes))[::-1])


def _unsqueeze(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    return _widened(value, a["dim"] % (len(value.axes) + 1))


def _squeeze(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dims = a.get("dim", list(range(len(value.axes))))
    dims = {d % len(value.axes) for d in ([dims] if isinstance(dims, int) else dims)}
    kept = tuple(x for i, x in enumerate(value.axes) if not (i in dims and x == ()))
    return Value(kept, value.terms)


def _expand(ex: Expansion, a: dict[str, Any]) -> Value:
    value, size = ex.operand(a["self"]), a["size"]
    axes: tuple[Axis, ...] = ((),) * (len(size) - len(value.axes)) + value.axes
    wide = (
        x if n in (-1, algebra.size_of(x)) else algebra.axis_of(n)
        for x, n in zip(axes, size, strict=True)
    )
    return Value(tuple(wide), value.terms)


def _repeat(ex: Expansion, a: dict[str, Any]) -> Value:
    value, repeats = ex.operand(a["self"]), list(a["repeats"] if "repeats" in a else a["dims"])
    repeats = [1] * (len(value.axes) - len(repeats)) + repeats
    axes: tuple[Axis, ...] = ((),) * (len(repeats) - len(value.axes)) + value.axes
    return Value(
        tuple(algebra.axis_of(n) + x for x, n in zip(axes, repeats, strict=True)), value.terms
    )


def _repeat_interleave(ex: Expansion, a: dict[str, Any]) -> Value:
    value, dim = ex.operand(a["self"]), a["dim"]
    if dim is None or not isinstance(a["repeats"], int):
        raise NotAligned("repeat_interleave with a tensor of repeats")
    axes = list(value.axes)
    axes[dim] = axes[dim] + algebra.axis_of(a["repeats"])
    return Value(tuple(axes), value.terms)


def _slice(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dim = a["dim"] % len(value.axes)
    chosen = range(value.shape[dim])[slice(a["start"], a["end"], a["step"])]
    if len(chosen) == value.shape[dim]:
        return value
    return taken(value, dim, chosen)


def _select(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dim = a["dim"] % len(value.axes)
    return dropped(taken(value, dim, [a["index"] % value.shape[dim]]), dim)


def _flip(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    for dim in a["dims"]:
        value = taken(value, dim % len(value.axes), range(value.shape[dim])[::-1])
    return value


def _pad(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    if a.get("mode", "constant") != "constant" or a.get("value") not in (None, 0):
        raise NotAligned("padding with other than zeros")
    pads = list(a["pad"])
    for i in range(0, len(pads), 2):
        dim = len(value.axes) - 1 - i // 2
        value = _padded(value, dim, pads[i], pads[i + 1])
    return value


def _padded(value: Value, dim: int, before: int, after: int) -> Value:
    """Zeros around an axis; a negative number of them cuts entries off."""
    size = value.shape[dim]
    if min(before, after) < 0:
        value = taken(value, dim, range(size)[max(-before, 0) : size - max(-after, 0)])
    return placed(value, dim, max(before, 0), size + before + after)


def _roll(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    if not a["dims"]:
        raise NotAligned("a roll of the flattened tensor")
    for shift, dim in zip(a["shifts"], a["dims"], strict=True):
        size = value.shape[dim]
        value = taken(value, dim % len(value.axes), [(i - shift) % size for i in range(size)])
    return value


def _cat(ex: Expansion, a: dict[str, Any]) -> Value:
    values = [ex.operand(source) for source in a["tensors"]]
    return _joined(values, a["dim"] % len(values[0].axes))


def _stack(ex: Expansion, a: dict[str, Any]) -> Value:
    values = [ex.operand(source) for source in a["tensors"]]
    dim = a["dim"] % (len(values[0].axes) + 1)
    return _joined([_widened(value, dim) for value in values], dim)


def _joined(values: Sequence[Value], dim: int) -> Value:
    """One value behind the other along an axis: the sum of all, each with zeros around it."""
    *starts, length = accumulate((value.shape[dim] for value in values), initial=0)
    places = zip(values, starts, strict=True)
    return reduce(algebra.add, (placed(value, dim, start, length) for value, start in places))


def _block_diagonal(ex: Expansion, a: dict[str, Any]) -> Value:
    blocks = [ex.operand(source) for source in a["tensors"]]
    if any(len(block.axes) != 2 for block in blocks):
        raise NotAligned("block_diag of other than matrices")
    *tops, height = accumulate((block.shape[0] for block in blocks), initial=0)
    places = zip(blocks, tops, strict=True)
    return _joined([placed(block, 0, top, height) for block, top in places], 1)


def _diagonal_matrix(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    if (a["offset"], a["dim1"], a["dim2"]) != (0, -2, -1):
        raise NotAligned("diag_embed off the last two dimensions")
    eye = algebra.constant(torch.eye(value.shape[-1], dtype=torch.float64))
    return algebra.multiply(_widened(value, len(value.axes)), eye)


def _widened(value: Value, dim: int) -> Value:
    """The value with an axis of size 1 more, at `dim`."""
    return Value((*value.axes[:dim], (), *value.axes[dim:]), value.terms)


def taken(value: Value, dim: int, chosen: Sequence[int]) -> Value:
    """The entries `chosen` of an axis, in that order."""
    length = value.shape[dim]
    if length > MAX_SELECTED:
        raise NotAligned("a long axis is cut")
    return algebra.selected(value, dim, torch.eye(length, dtype=torch.float64)[list(chosen)])


def dropped(value: Value, dim: int) -> Value:
    """The value without an axis of size 1."""
    return Value(tuple(axis for i, axis in enumerate(value.axes) if i != dim), value.terms)


def placed(value: Value, dim: int, start: int, length: int) -> Value:
    """`value` at `start` of an axis of `length`, zeros around it."""
    if length > MAX_SELECTED:
        raise NotAligned("a long axis is assembled")
    size = value.shape[dim]
    matrix = torch.zeros(length, size, dtype=torch.float64)
    matrix[start : start + size] = torch.eye(size, dtype=torch.float64)
    return algebra.selected(value, dim, matrix)


SPLITS = (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)

VIEWS: dict[Any, Rule] = {
    aten.reshape.default: _reshape,
    aten.flatten.using_ints: _flatten,
    aten.unflatten.int: _unflatten,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.t.default: _transpose,
    aten.numpy_T.default: _reversed,
    aten.unsqueeze.default: _unsqueeze,
    aten.squeeze.default: _squeeze,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
    aten.expand.default: _expand,
    aten.clone.default: _same,
    aten.contiguous.default: _same,
    aten.alias.default: _same,
    aten.detach.default: _same,
    aten.type_as.default: _cast,
    aten._to_copy.default: _cast,
    aten.dropout.default: lambda ex, a: ex.operand(a["input"]),
}

#: Opened even on constants: a label that is only repeated must not look like one that varies.
BROADCASTS = (aten.expand.default, aten.repeat.default, aten.tile.default)

#: Operator → rule.
REARRANGED: dict[Any, Rule] = VIEWS | {
    aten.repeat.default: _repeat,
    aten.tile.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.flip.default: _flip,
    aten.roll.default: _roll,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.block_diag.default: _block_diagonal,
    aten.diag_embed.default: _diagonal_matrix,
}
