"""Exposure ratios measured on the pixels, for where cameras say nothing or something wrong.

Two frames of one scene differ by a factor wherever both are well exposed. Means of blocks forgive
noise and a shaking hand, the median forgives what moved. Where blocks hardly differ, or do not go
together, nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import RAW, Bracket, Frame
from pockethdr.errors import BracketError

_BLOCK, _BANDS = 16, 48
# Linear values that say something: above the noise, below the clip.
_DARK, _BRIGHT = 0.004, 0.85
_ENOUGH = 24
# Standard deviation in stops that blocks must have, and the correlation that shows one scene.
_CONTRAST, _ALIKE, _ALIEN = 0.35, 0.8, 0.3
# Stops by which claim and measurement may differ; a response that is only assumed bends the
# ratio of rgb frames by up to half a stop a stop.
_TOLERANCE, _BENT = 0.5, 0.5


@dataclass(frozen=True)
class Measured:
    """How two frames compare: the exposure of the second over the first, and how far they go
    together (1 one scene, 0 two), None where that cannot be told."""

    ratio: float
    likeness: float | None


def checked(bracket: Bracket, *, assumed_response: bool) -> Bracket:
    """The bracket, with measured ratios where its own are clearly wrong: `exposure_source` says so,
    or `notes`, where not all of them can be measured.

    Args:
        assumed_response: rgb frames are linearised by a curve that is not their camera's own.

    Raises:
        BracketError: neighbouring frames show different scenes.
    """
    blocks = [_linear_blocks(bracket, frame) for frame in bracket.frames]
    pairs = [_compared(a, b) for a, b in pairwise(blocks)]
    names = list(pairwise(map(_name, bracket.frames)))
    for pair, (a, b) in zip(pairs, names, strict=True):
        if pair.likeness is not None and pair.likeness < _ALIEN:
            raise BracketError(
                f"{bracket.name}: {a} and {b} do not show the same scene",
                expected="exposures of one scene from one place",
                fix="take the frame of another scene out of the folder",
            )
    claims = [longer / shorter for shorter, longer in pairwise(bracket.ratios)]
    wrong = [
        (pair, claim, a, b)
        for pair, claim, (a, b) in zip(pairs, claims, names, strict=True)
        if _contradicts(pair, claim, assumed_response)
    ]
    for pair, claim, a, b in wrong:
        if pair.ratio < 1:
            raise BracketError(
                f"{bracket.name}: {b} should be {claim:.3g} times as bright as {a} "
                f"({bracket.exposure_source}), and is {pair.ratio:.2g} times as bright",
                expected="the exposure times of these very frames",
                fix="correct them, or remove them: then the pixels are measured",
            )
    if not wrong:
        return bracket
    if any(pair.likeness is None or pair.ratio < 1.1 for pair in pairs):
        found = "; ".join(
            f"{b} is {pair.ratio:.3g} times as bright as {a}, not {claim:.3g} times"
            for pair, claim, a, b in wrong
        )
        doubt = f"exposure ratios of {bracket.exposure_source} are in doubt: {found}"
        return replace(bracket, notes=(*bracket.notes, doubt))
    first, second = (pair.ratio for pair in pairs)
    measured, said = _shown((1.0, first, first * second)), _shown(bracket.ratios)
    return replace(
        bracket,
        ratios=(1.0, first, first * second),
        exposure_source=f"the pixels: {measured} ({bracket.exposure_source} say {said})",
    )


def measured_exposures(images: Sequence[NDArray[np.float32]]) -> list[float] | None:
    """Relative exposures of linear H×W×3 images of one scene, the first 1.0; None if unclear."""
    blocks = [_means(image.mean(axis=2)) for image in images]
    order = sorted(range(len(images)), key=lambda index: float(blocks[index].mean()))
    exposures = {order[0]: 1.0}
    for darker, brighter in pairwise(order):
        pair = _compared(blocks[darker], blocks[brighter])
        if pair.likeness is None or pair.likeness < _ALIKE:
            return None
        exposures[brighter] = exposures[darker] * pair.ratio
    return [exposures[index] / exposures[0] for index in range(len(images))]


def _contradicts(pair: Measured, claimed: float, assumed_response: bool) -> bool:
    if pair.likeness is None or pair.likeness < _ALIKE:
        return False
    allowed = _TOLERANCE + (_BENT * abs(np.log2(claimed)) if assumed_response else 0.0)
    return bool(abs(np.log2(pair.ratio / claimed)) > allowed)


def _compared(darker: NDArray[np.float32], brighter: NDArray[np.float32]) -> Measured:
    useful = (darker > _DARK) & (brighter > _DARK) & (darker < _BRIGHT) & (brighter < _BRIGHT)
    if useful.sum() < _ENOUGH:
        return Measured(1.0, None)
    first, second = np.log2(darker[useful]), np.log2(brighter[useful])
    ratio = float(np.exp2(np.median(second - first)))
    if min(first.std(), second.std()) < _CONTRAST:
        return Measured(ratio, None)
    return Measured(ratio, float(np.corrcoef(first, second)[0, 1]))


def _linear_blocks(bracket: Bracket, frame: Frame) -> NDArray[np.float32]:
    """Means of blocks in bands of rows all over the frame, read without reading all of it."""
    height = frame.pixels.shape[0]
    starts = np.unique(np.linspace(0, max(0, height - _BLOCK), _BANDS).astype(int) // 2 * 2)
    bands = []
    for start in starts:
        band = np.asarray(frame.pixels[slice(int(start), int(start) + _BLOCK)], np.float32)
        linear = band if bracket.domain == RAW else bracket.response(band).mean(axis=2)
        bands.append(_means(linear))
    return np.concatenate([band.reshape(-1) for band in bands])


def _means(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of blocks; of pixels near the clip a mean says too little, so it is put above it."""
    clipped = _block_means(image > 0.98) > 0.02
    return np.where(clipped, np.float32(1), _block_means(image))


def _block_means(image: NDArray[Any]) -> NDArray[np.float32]:
    """Of whole blocks. Rows are added first, as whole lines: those of a block are short."""
    high, wide = (min(side, _BLOCK) for side in image.shape)
    down, across = image.shape[0] // high, image.shape[1] // wide
    blocks = image[: down * high, : across * wide].reshape(down, high, across * wide)
    lines = blocks.sum(axis=1, dtype=np.float32).reshape(down, across, wide)
    return lines.sum(axis=2) / np.float32(high * wide)


def _shown(ratios: Sequence[float]) -> str:
    return ", ".join(f"×{ratio:.3g}" for ratio in ratios)


def _name(frame: Frame) -> str:
    return frame.path.name if frame.path else "a frame"
