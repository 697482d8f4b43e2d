"""The classical merge: what a network has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import RAW, Bracket, Frame, pack

# From here up a pixel counts as clipped; in 8-bit JPEGs the codes 253-255 already bend.
CLIP = 0.99
# Keeps a weight on pixels that are black in every frame.
_FLOOR = 1e-3


def weighted_merge(bracket: Bracket) -> NDArray[np.float32]:
    """Merge a bracket as if nothing moved: Debevec and Malik 1997, equation 6, in linear light.

        H = Σ_i w(z_i) r_i · x_i / r_i  /  Σ_i w(z_i) r_i

    with z the normalised pixel, x its linear value, r the exposure ratio, and w the hat
    min(z, 1 − z), 0 where z clips. The factor r_i weighs a frame by its exposure time, that is by
    the inverse variance of its photon noise after division by r_i. Where every frame clips, the
    shortest one is taken.

    Returns:
        C×H×W float32 in [0, 1], 1.0 = clip level of the short frame; C = 4 packed RGGB, or 3.
    """
    total, weights = np.zeros((2, 1, 1, 1), np.float32)
    for frame, ratio in zip(bracket.frames, bracket.ratios, strict=True):
        coded, linear = _planes(bracket, frame)
        weight = _hat(coded) * np.float32(ratio)
        total = total + weight * (linear / np.float32(ratio))
        weights = weights + weight
    shortest = _planes(bracket, bracket.frames[0])[1]
    merged = np.where(weights > 0, total / np.maximum(weights, 1e-12), shortest)
    return np.clip(merged, 0.0, 1.0).astype(np.float32)


def _planes(bracket: Bracket, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The frame as C×H×W: as coded by the camera, and linear."""
    pixels = np.asarray(frame.pixels)
    if bracket.domain == RAW:
        planes = pack(pixels)
        return planes, planes
    return pixels.transpose(2, 0, 1), bracket.response(pixels).transpose(2, 0, 1)


def _hat(coded: NDArray[np.float32]) -> NDArray[np.float32]:
    weight = np.maximum(np.minimum(coded, 1 - coded), np.float32(_FLOOR))
    return np.where(coded < CLIP, weight, np.float32(0))
