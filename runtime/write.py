"""HDR images and previews on disk. The suffix decides the format; files appear whole or not at all.

Every file is written upright: pixels are turned by the EXIF orientation of the bracket, and no file
carries an orientation other than 1. Camera, time, place and exposure of the reference frame go
along.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from PIL import Image

from pockethdr.errors import PocketError
from pockethdr.files import atomic_path
from pockethdr.runtime import display, linear
from pockethdr.runtime.exif import carried_exif
from pockethdr.runtime.image import HDRImage


class _Writer(Protocol):
    def __call__(self, image: HDRImage, path: Path, exif: Image.Exif, threads: int, /) -> str: ...


class _DisplayWriter(Protocol):
    def __call__(
        self, image: HDRImage, path: Path, exif: Image.Exif, threads: int, /, *, exposure: float
    ) -> str: ...


LINEAR_FORMATS: dict[str, _Writer] = {
    ".exr": linear.write_exr,
    ".hdr": linear.write_radiance,
    ".tif": linear.write_tiff,
    ".tiff": linear.write_tiff,
}
SHOWN_FORMATS: dict[str, _DisplayWriter] = {
    ".jpg": display.write_ultra_hdr,
    ".jpeg": display.write_ultra_hdr,
    ".avif": display.write_avif,
}
HDR_FORMATS = (*LINEAR_FORMATS, *SHOWN_FORMATS)
PREVIEW_FORMATS: dict[str, _DisplayWriter] = {
    ".jpg": display.write_jpeg,
    ".jpeg": display.write_jpeg,
    ".png": display.write_png,
}


def save_hdr(
    image: HDRImage,
    path: Path,
    *,
    overwrite: bool = False,
    exposure: float = 0.0,
    threads: int = 2,
) -> str:
    """Write the image, upright: linear as .exr (half float), .hdr (Radiance) or .tif (16 bit), for
    displays as .jpg (Ultra HDR, a JPEG with a gain map) or .avif (10 bits, PQ).

    Args:
        exposure: stops to add where a display's white has to be found.

    Returns:
        One sentence on what a reader of the file must know.

    Raises:
        PocketError: unknown suffix, existing file without `overwrite`, or an unwritable place.
        OSError: no room for temporary files.
    """
    suffix = _known(path, HDR_FORMATS)
    if suffix in LINEAR_FORMATS:
        return _saved(LINEAR_FORMATS[suffix], image, path, overwrite, threads)
    write = partial(SHOWN_FORMATS[suffix], exposure=exposure)
    return _saved(write, image, path, overwrite, threads)


def save_preview(
    image: HDRImage,
    path: Path,
    *,
    overwrite: bool = False,
    exposure: float = 0.0,
    threads: int = 2,
) -> str:
    """Write the tone-mapped 8-bit sRGB image, upright, as .jpg or .png.

    Returns:
        One sentence on what was done to it.

    Raises:
        PocketError: unknown suffix, existing file without `overwrite`, or an unwritable place.
        OSError: no room for temporary files.
    """
    write = partial(PREVIEW_FORMATS[_known(path, PREVIEW_FORMATS)], exposure=exposure)
    return _saved(write, image, path, overwrite, threads)


def check_suffixes(hdr: Path, preview: Path | None = None) -> None:
    """Refuse unknown suffixes before any work is done.

    Raises:
        PocketError: a suffix that no format answers to.
    """
    if hdr.suffix.lower() == ".png":
        raise PocketError(
            f"{hdr}: a PNG holds no HDR image",
            expected=", ".join(HDR_FORMATS),
            fix=f"--out {hdr.with_suffix('.jpg')}, and --preview {hdr} to look at",
        )
    _known(hdr, HDR_FORMATS)
    if preview is not None:
        _known(preview, PREVIEW_FORMATS)


def _saved(write: _Writer, image: HDRImage, path: Path, overwrite: bool, threads: int) -> str:
    exif = carried_exif(image.source)
    with atomic_path(path, overwrite=overwrite) as unfinished:
        remark = write(image, unfinished, exif, threads)
    turned = image.orientation != 1
    return remark + (f"; turned upright (EXIF orientation {image.orientation})" if turned else "")


def _known(path: Path, formats: Mapping[str, object] | tuple[str, ...]) -> str:
    suffix = path.suffix.lower()
    if suffix not in formats:
        raise PocketError(f"{path}: no format for {path.suffix!r}", expected=", ".join(formats))
    return suffix
