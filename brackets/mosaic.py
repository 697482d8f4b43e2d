"""Bayer frames as stored → mosaics in [0, 1], still in the sensor's pattern."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets import formats
from pockethdr.brackets.bracket import Camera
from pockethdr.brackets.dng import read_dng
from pockethdr.errors import BracketError


@dataclass(frozen=True)
class Coded:
    """A mosaic as the sensor's own numbers, and the value in [0, 1] of each of them."""

    codes: NDArray[np.uint16]
    values: NDArray[np.float32]
    camera: Camera
    orientation: int


def read_codes(path: Path, camera: Camera | None) -> Coded:
    """One frame; `camera` is None for DNG, which carries its own.

    Raises:
        BracketError: the pixels contradict the camera, or are not a mosaic.
        Unavailable: a DNG without rawpy.
    """
    stored: formats.Samples
    if camera is None:
        stored, camera, orientation = read_dng(path)
    else:
        stored, orientation = formats.read_pixels(path), formats.read_header(path).orientation
    _check(path, stored, camera)
    values = np.arange(2**camera.bit_depth, dtype=np.float32) - np.float32(camera.black_level)
    values /= np.float32(camera.white_level - camera.black_level)
    codes = stored.astype(np.uint16, copy=False)
    return Coded(codes, np.clip(values, 0, 1), camera, orientation)


def whole_quads(image: NDArray[Any]) -> NDArray[Any]:
    """H×W[×C] with an odd last row or column followed by the one before it, whose colours are those
    that the sensor would have had there."""
    spare = [(0, side % 2) for side in image.shape[:2]] + [(0, 0)] * (image.ndim - 2)
    return np.pad(image, spare, mode="reflect") if any(after for _, after in spare) else image


def _check(path: Path, stored: formats.Samples, camera: Camera) -> None:
    if stored.ndim != 2:
        raise BracketError(
            f"{path}: {stored.shape[2]} channels, but a colour filter pattern is given",
            expected="a Bayer mosaic, one sample a pixel",
            fix="take the raw fields out of metadata.json for a colour photograph",
        )
    height, width = stored.shape
    if min(height, width) < 2:
        raise BracketError(
            f"{path}: a mosaic of {height}×{width}", expected="at least one 2×2 quad"
        )
    brightest = int(stored.max())
    if brightest >= 2**camera.bit_depth:
        raise BracketError(
            f"{path}: a sample of {brightest} in a file said to hold {camera.bit_depth} bits",
            expected=f"at most {2**camera.bit_depth - 1}",
            fix="correct bit_depth, black_level and white_level, or shift the samples down",
        )
