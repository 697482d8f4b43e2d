"""HDR images and previews on disk. The suffix decides the format; files appear whole or not at all.

Every file is written upright: pixels are turned by the EXIF orientation of the bracket, and no file
carries an orientation other than 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from pockethdr.brackets.exr import write_exr
from pockethdr.errors import PocketError
from pockethdr.export.manifest import atomic_path
from pockethdr.runtime.develop import upright
from pockethdr.runtime.fuse import HDRImage
from pockethdr.runtime.runner import Array

_JPEG_QUALITY = 95
_Writer = TypeVar("_Writer")


def save_hdr(image: HDRImage, path: Path, *, overwrite: bool = False) -> str:
    """Write the linear image, upright, as .exr (half float), .hdr (Radiance) or .tif (16 bit).

    Returns:
        One sentence on what a reader of the file must know.

    Raises:
        PocketError: unknown suffix, existing file without `overwrite`, or an unwritable place.
    """
    write = _writer(path, HDR_FORMATS)
    rgb = upright(image.rgb(), image.orientation)
    with atomic_path(path, overwrite=overwrite) as partial:
        remark = write(rgb, partial)
    return "; ".join(part for part in (remark, _turned(image.orientation)) if part)


def save_preview(
    image: HDRImage, path: Path, *, overwrite: bool = False, exposure: float = 0.0
) -> str:
    """Write the tone-mapped 8-bit sRGB image, upright, as .jpg or .png.

    Returns:
        One sentence on what was done to it.

    Raises:
        PocketError: unknown suffix, existing file without `overwrite`, or an unwritable place.
    """
    write = _writer(path, PREVIEW_FORMATS)
    pixels = image.preview(exposure=exposure)
    with atomic_path(path, overwrite=overwrite) as partial:
        write(pixels, partial)
    return "; ".join(part for part in ("8-bit sRGB", _turned(image.orientation)) if part)


def check_suffixes(hdr: Path, preview: Path | None = None) -> None:
    """Refuse unknown suffixes before any work is done.

    Raises:
        PocketError: a suffix that no format answers to.
    """
    _writer(hdr, HDR_FORMATS)
    if preview is not None:
        _writer(preview, PREVIEW_FORMATS)


def _exr(rgb: Array, path: Path) -> str:
    write_exr(path, rgb, half=True)
    return "linear sRGB primaries, 1.0 = clip level of the short frame"


def _radiance(rgb: Array, path: Path) -> str:
    _encode(".hdr", np.ascontiguousarray(rgb[..., ::-1]), path)
    return "linear sRGB primaries, shared exponent"


def _tiff(rgb: Array, path: Path) -> str:
    """Linear 16 bit. What exceeds 1 is kept by dividing all by the next power of two."""
    stops = max(0, math.ceil(math.log2(max(float(rgb.max()), 1.0))))
    codes = np.round(rgb[..., ::-1] * (65535 / 2**stops)).astype(np.uint16)
    _encode(".tiff", codes, path)
    return f"linear, 65535 = {2**stops} × the clip level of the short frame"


def _encode(suffix: str, bgr: np.ndarray, path: Path) -> None:
    done, data = cv2.imencode(suffix, bgr)
    if not done:
        raise PocketError(f"{path}: OpenCV cannot encode {bgr.shape} as {suffix}")
    path.write_bytes(data.tobytes())


def _jpeg(pixels: np.ndarray, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1  # Orientation
    Image.fromarray(pixels).save(path, "JPEG", quality=_JPEG_QUALITY, subsampling=0, exif=exif)


def _png(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path, "PNG")


def _writer(path: Path, formats: dict[str, _Writer]) -> _Writer:
    suffix = path.suffix.lower()
    if suffix not in formats:
        raise PocketError(f"{path}: no format for {path.suffix!r}", expected=", ".join(formats))
    return formats[suffix]


def _turned(orientation: int) -> str:
    return "" if orientation == 1 else f"turned upright (EXIF orientation {orientation})"


HDR_FORMATS: dict[str, Callable[[Array, Path], str]] = {
    ".exr": _exr,
    ".hdr": _radiance,
    ".tif": _tiff,
    ".tiff": _tiff,
}
PREVIEW_FORMATS: dict[str, Callable[[np.ndarray, Path], None]] = {
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".png": _png,
}
