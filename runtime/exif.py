"""What a photograph says of itself, carried over to what is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Rational
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from pockethdr.brackets.formats import SOFTWARE, exif_ifd, exif_of, opened

_SUBJECT_AREA = 0x9214  # which Pillow does not name
# They describe the source's own bytes: offsets, sizes, a thumbnail, how pixels lie and are coded.
_LEFT = {
    ExifTags.Base.MakerNote, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight,
    ExifTags.Base.ComponentsConfiguration, ExifTags.Base.ExifInteroperabilityOffset,
    ExifTags.Base.ColorSpace, ExifTags.Base.Gamma, ExifTags.Base.CompressedBitsPerPixel,
    _SUBJECT_AREA, ExifTags.Base.SubjectLocation,
}  # fmt: skip
_KEPT = {
    ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.DateTime, ExifTags.Base.Artist,
    ExifTags.Base.Copyright, ExifTags.Base.ImageDescription,
}  # fmt: skip
_TEXTS = _KEPT | {ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized}
_NUMBERS = {ExifTags.Base.ExposureTime, ExifTags.Base.FNumber}
# Bytes or numbers of one value; and bytes of a JPEG's segment, which has to hold all of it.
_LONGEST, _SEGMENT = 4096, 65_533
_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


def carried_exif(source: Path | None) -> Image.Exif:
    """Camera, time, exposure and place of `source`; its orientation is spent, so it is 1.

    Writers may rely on what is carried: text is one line, exposure time and aperture are numbers
    above zero, and all of it fits into a JPEG. A source without EXIF, with more than that or that
    Pillow cannot read leaves only the orientation.
    """
    carried = _orientation()
    try:
        data = source.read_bytes() if source else b""
        found = exif_of(opened(data), data)
    except (OSError, ValueError, SyntaxError):
        return carried
    carried.update(_sound({tag: found[tag] for tag in _KEPT & set(found)}))
    for ifd in _IFDS:
        tags = _sound(exif_ifd(found, ifd))
        if tags:
            carried.get_ifd(ifd).update(tags)
    return carried if len(carried.tobytes()) <= _SEGMENT else _orientation()


def _orientation() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    exif[ExifTags.Base.Software] = SOFTWARE
    return exif


def _sound(tags: Mapping[int, Any]) -> dict[int, Any]:
    """Those that hold for the output too, with values of the right kind; text as one line."""
    lines = {tag: _one_line(v) if isinstance(v, str) else v for tag, v in tags.items()}
    return {tag: value for tag, value in lines.items() if tag not in _LEFT and _fits(tag, value)}


def _one_line(text: str) -> str:
    return "".join(" " if c < " " or c == "\x7f" else c for c in text).strip()


def _fits(tag: int, value: object) -> bool:
    if isinstance(value, str | bytes | tuple) and len(value) > _LONGEST:
        return False
    if tag in _TEXTS:
        return isinstance(value, str)
    if tag in _NUMBERS:  # not several, and no fraction over zero
        return isinstance(value, Rational | float) and 0 < float(value) < math.inf
    return True
