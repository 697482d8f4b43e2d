"""How far an output pixel sees, measured: the halo that makes tiles equal to the whole frame."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pockethdr.errors import ModelError, first_line, own_line
from pockethdr.models.network import Network
from pockethdr.models.precision import InFloat64

# Outputs are asked for in one block, whole cells of whatever a network strides by up to 64: of the
# pixels of a cell, some see further than others, and tiles are cut between cells.
BLOCK = 64
# Height and width are measured apart, on strips: a quarter of the work of a square, and less.
_WIDTH = 64
_LENGTHS = (192, 320, 576)
# Of a frame, what has to be left beyond the largest halo that is looked for.
BEYOND = 16
# Levels for `holds`: grey beside black, all there is, and clipped, which is what masks look for.
_NEAR, _FAR = (0.4, 0.6), ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0))

#: Rows and columns of a frame.
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Sight:
    """What a network has to be shown for a part of its output, in pixels of its grid.

    Attributes:
        radius: how far it sees beyond a block of `multiple`; None where it sees the whole image.
        multiple: by how much frames may be moved, and the output moves along.
    """

    radius: int | None
    multiple: int


def sight_of(module: nn.Module, frames: Sequence[Tensor], multiple: int) -> Sight:
    """What a network of the zoo says of its own sight; for any other, the measured one."""
    if isinstance(module, Network):
        return Sight(module.config.radius, module.config.multiple)
    return measured_sight(module, frames, multiple)


def measured_sight(module: nn.Module, frames: Sequence[Tensor], multiple: int = 1) -> Sight:
    """From the gradient of a centre block in float64, and from frames that are moved.

    What a mask hides from the gradient is found by changing what lies beyond that (`holds`).

    Args:
        frames: example inputs, for their channels; their size does not matter.
        multiple: a power of two of which the sides of frames must be multiples.

    Returns:
        As `radius` the largest distance from the block, along height or width, at which an input of
        any frame still has influence; None when a frame of 576 pixels does not show its end (a
        global mean or maximum, attention), or when what becomes of a pixel depends on where it lies
        or on the frame's size.

    Raises:
        ModelError: the network takes no frames that are longer than wide, or has no gradient, or
            one of nothing but zeros.
    """
    channels = [frame.shape[1] for frame in frames]
    rows, columns = (_along(module, channels, axis, multiple) for axis in (2, 3))
    known = None not in (rows.radius, columns.radius)
    radius = max(rows.radius or 0, columns.radius or 0) if known else None
    return Sight(radius, max(rows.multiple, columns.multiple))


def _along(module: nn.Module, channels: Sequence[int], axis: int, multiple: int) -> Sight:
    steps: int | None = None
    for length in _LENGTHS:
        with _in_float64(module):
            reach = _support(module, channels, length, axis)
            ends = bool(reach[0]) or bool(reach[-1])
            steps = None if ends else _steps(module, channels, length, axis, multiple)
        radius = radius_of(reach, start_of_block(length))
        still = partial(_holds, module, channels, axis)
        if steps and still(radius):
            return Sight(radius, steps)
    if not steps:
        return Sight(None, multiple)
    return Sight(grown(still, radius, start_of_block(length) - BEYOND), steps)


def grown(still: Callable[[int], bool], beyond: int, most: int) -> int | None:
    """The least radius above `beyond`, up to `most`, that holds; None where not even that does."""
    if beyond >= most or not still(most):
        return None
    return bisect_left(range(most), True, lo=beyond + 1, key=still)


def _strips(channels: Sequence[int], length: int, axis: int, seed: int) -> list[Tensor]:
    return _noise(channels, _strip(length, axis), seed)


def _strip(length: int, axis: int) -> tuple[int, int]:
    """Its height and width."""
    return (length, _WIDTH) if axis == 2 else (_WIDTH, length)


def _noise(
    channels: Sequence[int],
    size: tuple[int, int],
    seed: int,
    *,
    levels: tuple[float, float] = (0.0, 1.0),
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    generator, (low, high) = torch.Generator().manual_seed(seed), levels
    noise = [torch.rand(1, c, *size, generator=generator, dtype=torch.float64) for c in channels]
    return [(low + (high - low) * frame).to(dtype) for frame in noise]


def start_of_block(length: int) -> int:
    """Where the centre block begins along a side, between cells."""
    return (length - BLOCK) // 2 // BLOCK * BLOCK


def steps_of(moves_along: Callable[[int], bool], multiple: int) -> int | None:
    """The least power of two from `multiple` to 64 by which frames can be moved; None without."""
    steps = (2**power for power in range(BLOCK.bit_length()))
    return next((by for by in steps if by >= multiple and moves_along(by)), None)


def _support(module: nn.Module, channels: Sequence[int], length: int, axis: int) -> Tensor:
    """Along `axis`, true where an input changes the centre block."""
    frames = [strip.requires_grad_() for strip in _strips(channels, length, axis, seed=0)]
    block = _output(module, frames).narrow(axis, start_of_block(length), BLOCK)
    return seen_by(block, frames).any(3 - axis)


def seen_by(block: Tensor, frames: Sequence[Tensor]) -> Tensor:
    """H×W, true where the gradient of a block says that an input of any frame changes it.

    Raises:
        ModelError: there is no gradient, or one of nothing but zeros.
    """
    # Unequal weights: gradients of a plain sum can cancel exactly.
    weights = torch.rand(block.shape, generator=torch.Generator().manual_seed(0)).double() + 0.5
    found = [g for g in _gradients((block * weights).sum(), frames) if g is not None]
    seen = torch.zeros(frames[0].shape[2:], dtype=torch.bool)
    for gradient in found:
        seen |= (gradient != 0).any(1)[0]
    if found and not seen.any():
        raise ModelError(
            "the network's gradient, by which its halo is measured, is zero everywhere",
            expected="an output that noise in [0, 1] does not clamp, and that is not rounded",
            fix="leave out a last clamp or rounding, or end with torch.sigmoid",
        )
    return seen


def _gradients(value: Tensor, frames: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not value.requires_grad:  # no frame is looked at
        return []
    try:
        return torch.autograd.grad(value, frames, allow_unused=True)
    except RuntimeError as error:
        raise ModelError(
            "the network has no gradient, by which its halo is measured: "
            + first_line(error, otherwise="no message"),
            expected="a network that could be trained",
            fix="write operations in place as new values (x = x * 2 instead of x *= 2)",
        ) from error


def _steps(
    module: nn.Module, channels: Sequence[int], length: int, axis: int, multiple: int
) -> int | None:
    """By how much the block can be moved, with all around it, into a longer strip, and is the same.

    Coordinates among the features, and offsets in parts of the frame, change with place and size.
    """
    strips, start = _strips(channels, length, axis, seed=0), start_of_block(length)

    def block(frames: Sequence[Tensor], start: int) -> Tensor:
        with torch.no_grad():
            return _output(module, frames).narrow(axis, start, BLOCK)

    def moves_along(by: int) -> bool:
        ahead = [strip.narrow(axis, 0, by) for strip in _strips(channels, length, axis, seed=3)]
        moved = [torch.cat(pair, axis) for pair in zip(ahead, strips, strict=True)]
        return torch.allclose(here, block(moved, start + by), rtol=1e-9, atol=1e-12)

    here = block(strips, start)
    return steps_of(moves_along, multiple)


def _holds(module: nn.Module, channels: Sequence[int], axis: int, radius: int) -> bool:
    """`holds` on the longest strip: a small frame hides a layer that leaps past its edge.

    In the module's own precision: a convolution in float64 takes ten times as long.
    """
    start = start_of_block(_LENGTHS[-1])
    stop = start + BLOCK
    size, across = _strip(_LENGTHS[-1], axis), slice(None)
    along = slice(max(0, start - radius), stop + radius), slice(start, stop)
    near, block = ((part, across) if axis == 2 else (across, part) for part in along)
    with _evaluating(module):
        own = next(module.parameters(), torch.zeros(())).dtype
        return holds(partial(_output, module), channels, size, near, block, dtype=own)


def holds(
    network: Callable[[Sequence[Tensor]], Tensor],
    channels: Sequence[int],
    size: tuple[int, int],
    near: Window,
    block: Window,
    *,
    dtype: torch.dtype = torch.float32,
) -> bool:
    """Whether inputs outside `near` leave a block of the output alone.

    No gradient shows a mask, such as of clipped pixels, and that of a largest value does not show
    who else could have been it. So what is far is black once, then noise, then clipped: two fields
    of one noise have nearly the same extremes.

    Args:
        channels: of each frame, whose sides (H, W) are `size`.
    """
    kept = _noise(channels, size, seed=1, levels=_NEAR, dtype=dtype)

    def beside(levels: tuple[float, float]) -> Tensor:
        frames = _noise(channels, size, seed=2, levels=levels, dtype=dtype)
        for frame, own in zip(frames, kept, strict=True):
            frame[..., *near] = own[..., *near]
        with torch.no_grad():
            return network(frames)[..., *block]

    black, *others = map(beside, _FAR)
    return all(torch.allclose(black, other, rtol=1e-5, atol=1e-7) for other in others)


def _output(module: nn.Module, frames: Sequence[Tensor]) -> Tensor:
    try:
        result: Tensor = module(*frames)
    except Exception as error:  # the user's own code
        height, width = frames[0].shape[2:]
        said = f"{type(error).__name__}: {first_line(error, otherwise='no message')}"
        raise ModelError(
            f"the network does not take frames of {height}x{width}, on which its halo is measured:"
            f" {said}{own_line(error)}",
            expected="a network that takes frames of any shape whose sides are multiples of 64",
        ) from error
    return result


def radius_of(reach: Tensor, start: int) -> int:
    """How far beyond the block at `start` the outermost true lies."""
    at = reach.nonzero()
    return max(0, int((start - at).max()), int((at - start - BLOCK + 1).max())) if len(at) else 0


@contextmanager
def _in_float64(module: nn.Module) -> Iterator[None]:
    """The module in double precision, and back to its own values and flags afterwards."""
    kept: dict[str, Any] = dict(module.named_parameters())
    data = {n: p.data for n, p in kept.items()}
    buffers = dict(module.named_buffers())
    module.double()
    try:
        with _evaluating(module), InFloat64():
            yield
    finally:
        for name, parameter in kept.items():
            parameter.data = data[name]
        for name, buffer in buffers.items():
            owner, _, leaf = name.rpartition(".")
            module.get_submodule(owner)._buffers[leaf] = buffer


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = [each for each in module.modules() if each.training]
    module.eval()
    try:
        yield
    finally:
        for each in training:
            each.training = True
