"""Photographs as files: headers without pixels, pixels without surprises.

Every decoder tolerates something in silence: Pillow cuts 16-bit colour down to 8, it and OpenCV
turn a TIFF by its orientation, both may accept a file that ends early. Here nothing is turned,
cut down or completed: a file is read whole, as stored, or refused by name. Only colours are
converted, where a file says that they are not sRGB (`icc.py`).
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from pockethdr.brackets.icc import to_srgb
from pockethdr.errors import BracketError

#: What our own pictures say in their EXIF.
SOFTWARE = "PocketHDR"
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
_FORMATS = ("JPEG", "PNG", "TIFF")
# Far above any phone's full sensor read-out (200 Mpx are binned before they become a JPEG).
MAX_PIXELS = 128_000_000
_CV2_AS_STORED = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
_DEEP_GREY = {"I;16", "I;16B", "I;16L", "I", "F"}

# Of TIFF: tags, the type of two bytes, and the version whose offsets have eight.
_WIDTH, _HEIGHT, _ORIENTATION, _SHORT, _BIGTIFF = 256, 257, 274, 3, 43
# What Pillow raises on EXIF that is none.
_NO_EXIF = (OSError, SyntaxError, ValueError, KeyError, TypeError, AttributeError, struct.error)
# Chunks of a PNG that may hold EXIF or an orientation.
_PNG_TELLS = {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}

# H×W×3 or H×W, uint8 or uint16.
Samples = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Header:
    """What a photograph says of itself before its pixels are read.

    Attributes:
        size: (height, width) as stored, before any EXIF rotation.
        exposure_s, iso, f_number: from EXIF, None where absent.
        orientation: EXIF 1..8.
        icc: the embedded colour profile, not looked into.
        is_ours: whether PocketHDR wrote it, which makes it no exposure.
    """

    path: Path
    size: tuple[int, int]
    exposure_s: float | None
    iso: float | None
    f_number: float | None
    orientation: int
    icc: bytes | None = None
    is_ours: bool = False


def is_photograph(path: Path) -> bool:
    """True for the suffixes that `read_pixels` decodes."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_header(path: Path) -> Header:
    """Size and EXIF of a JPEG, PNG or TIFF.

    Raises:
        BracketError: missing, not an image, or larger than `MAX_PIXELS`.
    """
    data = file_bytes(path)
    image = _open(path, data)
    exif = exif_of(image, data)
    shot = exif_ifd(exif, ExifTags.IFD.Exif)
    iso = shot.get(ExifTags.Base.ISOSpeedRatings)
    return Header(
        path=path,
        size=_stored_size(image),
        exposure_s=_number(shot.get(ExifTags.Base.ExposureTime)),
        iso=_number(iso[0] if isinstance(iso, tuple) else iso),
        f_number=_number(shot.get(ExifTags.Base.FNumber)),
        orientation=_orientation(exif.get(ExifTags.Base.Orientation)),
        icc=image.info.get("icc_profile"),
        is_ours=exif.get(ExifTags.Base.Software) == SOFTWARE,
    )


def read_pixels(path: Path) -> Samples:
    """The stored samples in sensor orientation: H×W×3 RGB or H×W grey, 8 or 16 bits.

    Raises:
        BracketError: missing, truncated, damaged, too large, or not RGB or grey.
    """
    return _decoded(path)[0]


def read_small(path: Path, *, longest: int = 512) -> NDArray[np.uint8]:
    """A colour photograph averaged down to about `longest` pixels: H×W×3 sRGB, 8 bits."""
    pixels, icc = _decoded(path, shrink_to=longest)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    step = min(1.0, longest / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=step, fy=step, interpolation=cv2.INTER_AREA)
    if small.ndim == 2:
        return np.asarray(np.stack([small] * 3, axis=-1), np.uint8)
    return np.asarray(to_srgb(path, np.asarray(small, np.uint8), icc), np.uint8)


def colour_pixels(path: Path, *, as_stored: bool = False) -> Samples:
    """An encoded colour photograph: H×W×3, 8 or 16 bits, converted to sRGB unless `as_stored`.

    Raises:
        BracketError: as `read_pixels`, for a grey image, and for a profile that is none of RGB.
    """
    pixels, icc = _decoded(path)
    if pixels.ndim != 3:
        raise BracketError(
            f"{path}: a grey image",
            expected="three colour channels",
            fix="for a Bayer mosaic give metadata.json with cfa_pattern, bit_depth, black_level "
            "and white_level",
        )
    return pixels if as_stored else to_srgb(path, pixels, icc)


def file_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        BracketError: it is missing or unreadable.
    """
    with _readable(path) as file:
        return file.read()


def check_readable(path: Path) -> None:
    """For libraries that open files themselves and say less about what is wrong.

    Raises:
        BracketError: the file is missing or unreadable.
    """
    with _readable(path):
        pass


def opened(data: bytes) -> Image.Image:
    """A file's picture, of the formats that photographs have alone, whatever its name is.

    Pillow knows many more by their content, and starts another program for some.

    Raises:
        OSError, SyntaxError, ValueError, Image.DecompressionBombError: as `Image.open`.
    """
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def exif_of(image: Image.Image, data: bytes) -> Image.Exif:
    """EXIF of an opened file; `data` is all of it.

    Of a PNG, Pillow decodes all pixels in search of what may stand behind them: here only where
    something does. EXIF that cannot be read says nothing.
    """
    try:
        if image.format == "PNG" and not _tells_at_end(data):
            return Image.Image.getexif(image)
        return image.getexif()
    except _NO_EXIF:
        return Image.Exif()


def exif_ifd(exif: Image.Exif, ifd: int) -> dict[int, Any]:
    """A directory of an EXIF block; nothing of one that cannot be read."""
    try:
        return dict(exif.get_ifd(ifd))
    except _NO_EXIF:
        return {}


def too_large(path: Path, size: int, claim: str) -> BracketError:
    """The refusal of a file of `size` bytes that says it holds more than `MAX_PIXELS`."""
    return BracketError(
        f"{path}: its header claims {claim} in a file of {size} bytes",
        expected=f"at most {MAX_PIXELS // 1_000_000} million pixels",
        fix="crop or downsample the frames",
    )


@contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BracketError(
            f"{path}: {error.strerror or error}",
            expected="a readable file",
            fix=f"check it with `ls -l {path.parent}`",
        ) from error


def _decoded(path: Path, *, shrink_to: int | None = None) -> tuple[Samples, bytes | None]:
    """The samples as stored, and the colour profile beside them.

    Args:
        shrink_to: let a JPEG decode faster at a half, quarter or eighth, no smaller than this.
    """
    data = _unturned(file_bytes(path))
    image = _open(path, data)
    icc = image.info.get("icc_profile")
    if shrink_to:
        image.draft(image.mode, (shrink_to, shrink_to))
    if image.format == "PNG" and image.mode == "I;16":
        return _deep_png(path, data), icc
    _check_complete(path, data, image)
    if image.mode in _DEEP_GREY or _bits(image, data) > 8:
        return _with_opencv(path, data), icc
    if image.mode in {"P", "RGBA", "RGBX"}:
        image = image.convert("RGB")
    if image.mode not in {"RGB", "L"}:
        raise BracketError(
            f"{path}: colour mode {image.mode}",
            expected="RGB or grey",
            fix="save it as an RGB JPEG, PNG or TIFF",
        )
    return np.asarray(image), icc


def _open(path: Path, data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = opened(data)
    except Image.DecompressionBombError as error:
        raise too_large(path, len(data), str(error).split("(")[-1].split(")")[0]) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BracketError(
            f"{path}: not an image that can be read",
            expected="a complete JPEG, PNG or TIFF",
            fix="copy the file again, or take it out of the folder",
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise too_large(path, len(data), f"{image.width}×{image.height} pixels")
    return image


def _check_complete(path: Path, data: bytes, image: Image.Image) -> None:
    """Decode everything once; PNG check sums too, which decoding alone leaves out."""
    try:
        if image.format == "PNG":
            opened(data).verify()
        _load(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BracketError:
    return BracketError(
        f"{path}: truncated or damaged ({error})",
        expected="a complete image file",
        fix="copy the file again from the phone",
    )


def _deep_png(path: Path, data: bytes) -> Samples:
    """A grey PNG of 16 bits, decoded once and straight into the array; libpng checks the sums."""
    import imagecodecs

    try:
        return np.asarray(imagecodecs.png_decode(data), np.uint16)
    except imagecodecs.PngError as error:
        raise _damaged(path, error) from error


def _load(image: Image.Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if image.format == "TIFF":  # may be turned by its XMP alone
            image.getexif()[_ORIENTATION] = 1
        image.load()


def _with_opencv(path: Path, data: bytes) -> Samples:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _CV2_AS_STORED)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise BracketError(
            f"{path}: cannot be decoded",
            expected="8 or 16 bits a sample",
            fix="save it as a 16-bit PNG or TIFF",
        )
    return np.asarray(pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 2::-1]))


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Height and width; Pillow swaps those of a TIFF on its side before anything is decoded."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_HEIGHT, image.height), tags.get(_WIDTH, image.width)


def _unturned(data: bytes) -> bytes:
    """A TIFF that says that it lies as stored, so that no decoder turns it; other files as is."""
    if data[:2] not in (b"II", b"MM"):
        return data
    upright = bytearray()
    with suppress(struct.error, OverflowError):  # past the end: whoever opens it says so
        for at, layout in _tiff_entries(data):
            if struct.unpack_from(layout, data, at)[0] == _ORIENTATION:
                upright = upright or bytearray(data)
                struct.pack_into(layout, upright, at, _ORIENTATION, _SHORT, 1, 1)
    return bytes(upright) or data


def _tiff_entries(data: bytes) -> Iterator[tuple[int, str]]:
    """Where each entry of the first directory lies, and its layout: tag, type, count, a SHORT."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == _BIGTIFF
    offset, count, entry = ("Q", "Q", "HHQH6x") if big else ("I", "H", "HHIH2x")
    (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count, data, at)
    at += struct.calcsize(order + count)
    for index in range(entries):
        yield at + index * struct.calcsize(order + entry), order + entry


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits of one stored sample; Pillow's mode hides them for colour."""
    if image.format == "PNG":
        return data[24]
    tags = getattr(image, "tag_v2", {})
    return max(tags.get(258, (8,))) if image.format == "TIFF" else 8


def _tells_at_end(png: bytes) -> bool:
    """Whether chunks that may hold EXIF follow the pixels."""
    at, pixels = 8, False
    while at + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        pixels |= kind == b"IDAT"
        if pixels and kind in _PNG_TELLS:
            return True
        at += 12 + length
    return False


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if np.isfinite(number) else None


def _orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
