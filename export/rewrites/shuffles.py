"""Pixel shuffles, recognised in both spellings a trace can hold.

    unshuffle  N×C×Hr×Wr → N×Cr²×H×W     out[c r² + a r + b, i, j] = in[c, i r + a, j r + b]
    shuffle    N×Cr²×H×W → N×C×Hr×Wr     the inverse

Either one operator, or view → permute → view through rank 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from pockethdr.export.aten import arguments, aten, is_call, shape

_UNSHUFFLED = [0, 1, 3, 5, 2, 4]
_SHUFFLED = [0, 1, 4, 2, 5, 3]


@dataclass(frozen=True)
class Shuffle:
    """A pixel shuffle or unshuffle of `input` by `factor`."""

    input: fx.Node
    factor: int


def unshuffle_of(node: Any) -> Shuffle | None:
    """The pixel unshuffle whose result is `node`."""
    if is_call(node, aten.pixel_unshuffle.default):
        return Shuffle(node.args[0], arguments(node)["downscale_factor"])
    split = _split_of(node, _UNSHUFFLED)
    if split is None:
        return None
    batch, channels, height, factor, width, other = shape(split)
    return _spelled(
        split,
        factor if factor == other else 0,
        source=(batch, channels, height * factor, width * factor),
        found=shape(node),
        expected=(batch, channels * factor**2, height, width),
    )


def shuffle_of(node: Any) -> Shuffle | None:
    """The pixel shuffle whose result is `node`."""
    if is_call(node, aten.pixel_shuffle.default):
        return Shuffle(node.args[0], arguments(node)["upscale_factor"])
    split = _split_of(node, _SHUFFLED)
    if split is None:
        return None
    batch, channels, factor, other, height, width = shape(split)
    return _spelled(
        split,
        factor if factor == other else 0,
        source=(batch, channels * factor**2, height, width),
        found=shape(node),
        expected=(batch, channels, height * factor, width * factor),
    )


def _split_of(node: Any, order: list[int]) -> fx.Node | None:
    """The first view of view → permute(order) → view, when `node` is the last."""
    if not is_call(node, aten.reshape.default):
        return None
    turned = _uncopied(node.args[0])
    if not is_call(turned, aten.permute.default) or list(turned.args[1]) != order:
        return None
    split = _uncopied(turned.args[0])
    return split if is_call(split, aten.reshape.default) else None


def _uncopied(node: Any) -> Any:
    while is_call(node, aten.clone.default):
        node = node.args[0]
    return node


def _spelled(
    split: fx.Node,
    factor: int,
    *,
    source: tuple[int, ...],
    found: tuple[int, ...],
    expected: tuple[int, ...],
) -> Shuffle | None:
    origin = split.args[0]
    assert isinstance(origin, fx.Node)
    fits = factor > 1 and shape(origin) == source and found == expected
    return Shuffle(origin, factor) if fits else None
