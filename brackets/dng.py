"""DNG frames through rawpy (LibRaw), an optional install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import SRGB_TO_XYZ, Camera
from pockethdr.brackets.formats import check_readable
from pockethdr.errors import BracketError, Unavailable

# LibRaw's flip is of bits: 1 mirrors, 2 turns upside down, and 4 transposes first.
_ORIENTATION_OF_FLIP = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


def read_dng(path: Path) -> tuple[NDArray[np.uint16], Camera, int]:
    """The visible mosaic as stored, its camera, and the EXIF orientation.

    Raises:
        Unavailable: rawpy is not installed.
        BracketError: LibRaw cannot read the file, or the sensor is not 2×2 Bayer.
    """
    with _opened(path) as raw:
        mosaic = np.array(raw.raw_image_visible)
        return mosaic, _camera(raw), _ORIENTATION_OF_FLIP[raw.sizes.flip & 7]


def exposure_of_dng(path: Path) -> tuple[float, float, float]:
    """(seconds, ISO, f-number) from EXIF; 0 where the file has none.

    Raises:
        Unavailable: rawpy is not installed.
        BracketError: LibRaw cannot read the file.
    """
    with _opened(path) as raw:
        shot = raw.other
        return float(shot.shutter_speed), float(shot.iso_speed), float(shot.aperture)


def size_of_dng(path: Path) -> tuple[int, int]:
    """H, W of the mosaic that `read_dng` returns.

    Raises:
        Unavailable: rawpy is not installed.
        BracketError: LibRaw cannot read the file.
    """
    with _opened(path) as raw:
        return raw.sizes.height, raw.sizes.width


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as LibRaw sees it: only the header, until something asks for more."""
    rawpy = _rawpy()
    check_readable(path)
    try:
        with rawpy.imread(str(path)) as raw:
            yield raw
    except (rawpy.LibRawError, UnicodeEncodeError) as error:
        raise BracketError(
            f"{path}: LibRaw cannot read it ({error})",
            expected="a complete DNG",
            fix="copy the file again from the phone",
        ) from error
    except BracketError as error:
        raise BracketError(f"{path}: {error.what}", expected=error.expected) from error


def _camera(raw: Any) -> Camera:
    if raw.raw_pattern is None or raw.raw_pattern.shape != (2, 2):
        raise BracketError("not a 2×2 Bayer sensor", expected="RGGB, BGGR, GRBG or GBRG")
    letters = raw.color_desc.decode()
    white = float(raw.white_level)
    gains = np.asarray(raw.camera_whitebalance[:3], np.float64)
    gains = gains / gains[1] if gains[1] > 0 else np.ones(3)
    return Camera(
        cfa="".join(letters[index] for index in raw.raw_colors_visible[:2, :2].ravel()),
        bit_depth=int(np.ceil(np.log2(white + 1))),
        black_level=float(np.mean(raw.black_level_per_channel)),
        white_level=white,
        wb_gains=(float(gains[0]), 1.0, float(gains[2])),
        ccm=_ccm(np.asarray(raw.rgb_xyz_matrix, np.float64)[:3]),
    )


def _ccm(camera_from_xyz: NDArray[np.float64]) -> NDArray[np.float32]:
    """White-balanced camera RGB → linear sRGB: rows normalised so that white stays white."""
    if not camera_from_xyz.any():
        return np.eye(3, dtype=np.float32)
    camera_from_srgb = camera_from_xyz @ SRGB_TO_XYZ
    camera_from_srgb /= camera_from_srgb.sum(axis=1, keepdims=True)
    return np.linalg.inv(camera_from_srgb).astype(np.float32)


def _rawpy() -> Any:
    try:
        import rawpy
    except ImportError as error:
        raise Unavailable("rawpy is not installed", install="pip install 'pockethdr[raw]'") from (
            error
        )
    return rawpy
