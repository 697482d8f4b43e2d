"""Bayer frames as stored → mosaics in [0, 1], still in the sensor's pattern."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets import formats
from pockethdr.brackets.bracket import Camera
from pockethdr.brackets.dng import read_dng
from pockethdr.errors import BracketError


@dataclass(frozen=True)
class Mosaic:
    """H×W float32 in [0, 1], black subtracted, clipped at white; not yet flipped to RGGB."""

    pixels: NDArray[np.float32]
    camera: Camera
    orientation: int


def read_mosaic(path: Path, camera: Camera | None) -> Mosaic:
    """One frame; `camera` is None for DNG, which carries its own.

    Raises:
        BracketError: the pixels contradict the camera, are not a mosaic, or have an odd size.
        Unavailable: a DNG without rawpy.
    """
    stored: formats.Samples
    if camera is None:
        stored, camera, orientation = read_dng(path)
    else:
        stored, orientation = formats.read_pixels(path), formats.read_header(path).orientation
    _check(path, stored, camera)
    span = camera.white_level - camera.black_level
    pixels = np.subtract(stored, camera.black_level, dtype=np.float32)
    pixels /= np.float32(span)
    return Mosaic(np.clip(pixels, 0, 1, out=pixels), camera, orientation)


def _check(path: Path, stored: formats.Samples, camera: Camera) -> None:
    if stored.ndim != 2:
        raise BracketError(
            f"{path}: {stored.shape[2]} channels, but a colour filter pattern is given",
            expected="a Bayer mosaic, one sample a pixel",
            fix="take the raw fields out of metadata.json for a colour photograph",
        )
    height, width = stored.shape
    if height % 2 or width % 2:
        raise BracketError(
            f"{path}: a mosaic of {height}×{width}",
            expected="even height and width, whole 2×2 quads",
            fix="crop the last row or column of every frame and of the ground truth",
        )
    brightest = int(stored.max())
    if brightest >= 2**camera.bit_depth:
        raise BracketError(
            f"{path}: a sample of {brightest} in a file said to hold {camera.bit_depth} bits",
            expected=f"at most {2**camera.bit_depth - 1}",
            fix="correct bit_depth, black_level and white_level, or shift the samples down",
        )
