"""How good a network's HDR images are, on brackets with ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.metrics import psnr_l, psnr_mu, ssim_l, ssim_mu
from pockethdr.errors import BracketError, PocketError

Image = NDArray[np.float32]
# Mobile-HDR's test.py fuses and scores packed tiles of this side, and drops what does not fill one.
OFFICIAL_TILE = 256


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM of one image, by the conventions of `brackets.metrics`."""

    psnr_mu: float
    ssim_mu: float
    psnr_l: float
    ssim_l: float

    @classmethod
    def of(cls, image: Image, truth: Image) -> Self:
        """The score of C×H×W `image` against `truth`, cut to the image's size."""
        truth = truth[:, : image.shape[1], : image.shape[2]]
        return cls(*(metric(image, truth) for metric in (psnr_mu, ssim_mu, psnr_l, ssim_l)))


@dataclass(frozen=True)
class Compared:
    """The network's score on one bracket, and the weighted merge's on the same pixels."""

    bracket: str
    network: Score
    merge: Score


def compared(
    module: nn.Module,
    brackets: Iterable[Bracket],
    *,
    official: bool = False,
    multiple: int | None = None,
) -> Iterator[Compared]:
    """One comparison for each bracket that has a ground truth.

    Args:
        official: fuse and score as Mobile-HDR's own evaluation does: non-overlapping 256×256
            packed tiles, the remainder at the right and at the bottom dropped.
        multiple: what H and W of whole frames are cut to; None for what the network says itself.

    Raises:
        BracketError: `official`, and the bracket does not hold one tile.
        PocketError: what the network returns is no image.
    """
    for bracket in brackets:
        truth = bracket.ground_truth
        if truth is None:
            continue
        image = _fused_in_tiles(module, bracket) if official else fused(module, bracket, multiple)
        if not np.isfinite(image).all():
            raise PocketError(
                f"the network returns NaN or infinity on {bracket.name}",
                fix="mend the network or its weights: nothing can be scored",
            )
        merged = weighted_merge(bracket)[:, : image.shape[1], : image.shape[2]]
        yield Compared(bracket.name, Score.of(image, truth), Score.of(merged, truth))


def fused(module: nn.Module, bracket: Bracket, multiple: int | None = None) -> Image:
    """The network's HDR image C×H×W in [0, 1], in one piece, cut to sizes that it accepts."""
    own: int = getattr(getattr(module, "config", None), "multiple", 1)
    height, width = (size - size % (multiple or own) for size in bracket.size())
    return _run(module, [frame[..., :height, :width] for frame in bracket.inputs()])


def _fused_in_tiles(module: nn.Module, bracket: Bracket) -> Image:
    rows, columns = (size // OFFICIAL_TILE for size in bracket.size())
    if not rows or not columns:
        raise BracketError(
            f"{bracket.name}: {bracket.size()[0]}×{bracket.size()[1]} packed pixels",
            expected=f"at least one official tile, {OFFICIAL_TILE}×{OFFICIAL_TILE}",
            fix="score whole frames: leave --official out",
        )
    frames = bracket.inputs()
    lines = [
        np.concatenate(
            [_run(module, _tile(frames, row, column)) for column in range(columns)], axis=2
        )
        for row in range(rows)
    ]
    return np.concatenate(lines, axis=1)


def _tile(frames: Sequence[Image], row: int, column: int) -> list[Image]:
    top, left = row * OFFICIAL_TILE, column * OFFICIAL_TILE
    return [f[..., top : top + OFFICIAL_TILE, left : left + OFFICIAL_TILE] for f in frames]


def _run(module: nn.Module, frames: list[Image]) -> Image:
    with torch.no_grad():
        image = module(*(torch.from_numpy(np.ascontiguousarray(f)) for f in frames))[0]
    return np.asarray(image.clamp(0, 1).numpy())
