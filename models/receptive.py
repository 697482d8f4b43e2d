"""How far an output pixel sees, measured: the halo that makes tiles equal to the whole frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Outputs are asked for in whole aligned blocks, as tiles are cut: with space-to-depth inside, an
# odd pixel sees one further to the right than its even neighbour, but never past its block's halo.
_BLOCK = 16
_SIZES = (64, 128, 256)


def receptive_radius(module: nn.Module, frames: Sequence[Tensor]) -> int | None:
    """The halo in pixels of the network's grid, from the gradient of a centre block in float64.

    Args:
        frames: example inputs, for their channels; their size does not matter.

    Returns:
        The largest distance from the block at which an input of any frame still has influence;
        None when every input of a 256×256 frame has it (a global mean, attention).
    """
    channels = [frame.shape[1] for frame in frames]
    for size in _SIZES:
        with _in_float64(module):
            reach = _support(module, channels, size)
        radius = _radius(reach)
        if not bool(_border(reach).any()) and _holds(module, channels, radius):
            return radius
    return None if bool(reach.all()) else radius


def _support(module: nn.Module, channels: Sequence[int], size: int) -> Tensor:
    """size×size, true where an input changes the centre block."""
    generator = torch.Generator().manual_seed(0)
    frames = [
        torch.rand(1, c, size, size, generator=generator, dtype=torch.float64).requires_grad_()
        for c in channels
    ]
    start = size // 2 - _BLOCK // 2
    block = module(*frames)[..., start : start + _BLOCK, start : start + _BLOCK]
    # Unequal weights: gradients of a plain sum can cancel exactly.
    weights = torch.rand(block.shape, generator=generator, dtype=torch.float64) + 0.5
    seen = torch.autograd.grad((block * weights).sum(), frames, allow_unused=True)
    reach = torch.zeros(size, size, dtype=torch.bool)
    for gradient in seen:
        if gradient is not None:
            reach |= (gradient != 0).any(1)[0]
    return reach


def _holds(module: nn.Module, channels: Sequence[int], radius: int) -> bool:
    """Whether inputs further away, on the largest size, leave the block alone.

    A small frame does not show a layer that leaps past its edge, as a wide dilation does. In the
    module's own precision: a convolution in float64 takes ten times as long.
    """
    own = next(module.parameters(), torch.zeros(())).dtype
    size = _SIZES[-1]
    start, stop = size // 2 - _BLOCK // 2, size // 2 + _BLOCK // 2
    near = slice(max(0, start - radius), stop + radius)
    generator = torch.Generator().manual_seed(1)
    frames = [torch.rand(1, c, size, size, generator=generator, dtype=own) for c in channels]
    changed = [torch.rand(f.shape, generator=generator, dtype=f.dtype) for f in frames]
    for frame, far in zip(frames, changed, strict=True):
        far[..., near, near] = frame[..., near, near]
    with torch.no_grad(), _evaluating(module):
        block = module(*frames)[..., start:stop, start:stop]
        other = module(*changed)[..., start:stop, start:stop]
    return torch.allclose(block, other, rtol=1e-5, atol=1e-7)


def _border(reach: Tensor) -> Tensor:
    return torch.cat([reach[0], reach[-1], reach[:, 0], reach[:, -1]])


def _radius(reach: Tensor) -> int:
    size = reach.shape[0]
    first, last = size // 2 - _BLOCK // 2, size // 2 + _BLOCK // 2 - 1
    at = reach.nonzero()
    return max(0, int((first - at).max()), int((at - last).max())) if len(at) else 0


@contextmanager
def _in_float64(module: nn.Module) -> Iterator[None]:
    """The module in double precision, and back to its own values and flags afterwards."""
    kept: dict[str, Any] = dict(module.named_parameters())
    data = {n: p.data for n, p in kept.items()}
    buffers = dict(module.named_buffers())
    module.double()
    try:
        with _evaluating(module):
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
