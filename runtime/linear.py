"""Linear light on disk, strip by strip: OpenEXR, Radiance, 16-bit TIFF."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from pockethdr.brackets.exr import StripExr
from pockethdr.runtime.image import STRIP, HDRImage
from pockethdr.runtime.parallel import in_order
from pockethdr.runtime.runner import Array

_EXIF, _BASE = ExifTags.IFD.Exif, ExifTags.Base


def write_exr(image: HDRImage, path: Path, exif: Image.Exif, threads: int) -> str:
    """Half floats; camera, time and exposure as the standard attributes of OpenEXR."""
    shot = exif.get_ifd(_EXIF)
    attributes = {
        "cameraMake": exif.get(_BASE.Make),
        "cameraModel": exif.get(_BASE.Model),
        "capDate": shot.get(_BASE.DateTimeOriginal, exif.get(_BASE.DateTime)),
        "expTime": shot.get(_BASE.ExposureTime),
        "aperture": shot.get(_BASE.FNumber),
    }
    with StripExr(path, image.size, attributes) as file:
        for strip in in_order(image.strip, image.strips(), threads):
            file.append(strip)
    return "linear sRGB primaries, 1.0 = clip level of the short frame"


def write_radiance(image: HDRImage, path: Path, exif: Image.Exif, threads: int) -> str:
    """Scan lines are coded each for itself, so those of strips make up those of the whole."""
    height, width = image.size
    taken = exif.get(_BASE.DateTime)
    with path.open("wb") as file:
        file.write(b"#?RADIANCE\nSOFTWARE=PocketHDR\n")
        file.write(f"CAPDATE={taken}\n".encode() if taken else b"")
        file.write(f"FORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode())
        for lines in in_order(lambda rows: _radiance(image.strip(rows)), image.strips(), threads):
            file.write(lines)
    return "linear sRGB primaries, shared exponent"


def _radiance(strip: Array) -> bytes:
    _, coded = cv2.imencode(".hdr", cv2.merge(list(strip[::-1])))
    data = coded.tobytes()
    return data[data.index(b"\n", data.index(b"\n\n") + 2) + 1 :]


def write_tiff(image: HDRImage, path: Path, exif: Image.Exif, threads: int) -> str:
    """Linear 16 bit, deflated. What may exceed 1 is kept by dividing all by a power of two."""
    scale = 2 ** max(0, math.ceil(math.log2(_brightest(image))))
    coded = in_order(
        lambda rows: _deflated(image.strip(rows) * np.float32(65535 / scale)),
        image.strips(),
        threads,
    )
    with path.open("wb") as file:
        file.write(bytes(8))  # the header, once it is known where the directory lies
        sizes = [file.write(strip) for strip in coded]
        file.write(bytes(file.tell() % 2))  # a directory begins on a word boundary
        directory, at = _directory(image.size, sizes, exif, file.tell()), file.tell()
        file.write(directory)
        file.seek(0)
        file.write(struct.pack("<2sHI", b"II", 42, at))
    return f"linear, 65535 = {scale} × the clip level of the short frame"


def _brightest(image: HDRImage) -> float:
    """No value of the image is above this: what white balance and matrix can make of 1."""
    if image.camera is None:
        return 1.0
    mixed = np.asarray(image.camera.ccm) * np.asarray(image.camera.wb_gains)
    return max(1.0, float(np.maximum(mixed, 0).sum(axis=1).max()))


def _deflated(strip: Array) -> bytes:
    codes = np.clip(np.round(strip), 0, 65535).astype("<u2").transpose(1, 2, 0)
    steps = np.ascontiguousarray(codes)
    steps[:, 1:] -= codes[:, :-1]  # TIFF's horizontal predictor
    return zlib.compress(steps.tobytes(), 1)


def _directory(size: tuple[int, int], sizes: list[int], exif: Image.Exif, at: int) -> bytes:
    """A TIFF directory (all values as LONG, SHORT or ASCII), what does not fit in it behind it."""
    height, width = size
    offsets = np.cumsum([8, *sizes[:-1]]).tolist() if sizes else []
    words = {256: [width], 257: [height], 273: offsets, 278: [STRIP], 279: sizes}
    shorts = {258: [16] * 3, 259: [8], 262: [2], 274: [1], 277: [3], 284: [1], 317: [2]}
    texts = {tag: str(exif[tag]) for tag in (271, 272, 305, 306) if tag in exif}
    entries = [(tag, 4, len(v), struct.pack(f"<{len(v)}I", *v)) for tag, v in words.items()]
    entries += [(tag, 3, len(v), struct.pack(f"<{len(v)}H", *v)) for tag, v in shorts.items()]
    for tag, text in texts.items():
        data = text.encode("ascii", "replace") + b"\0"
        entries.append((tag, 2, len(data), data))
    return _packed(sorted(entries), at)


def _packed(entries: Iterable[tuple[int, int, int, bytes]], at: int) -> bytes:
    entries = list(entries)
    behind, table = b"", struct.pack("<H", len(entries))
    start = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, data in entries:
        value = data.ljust(4, b"\0")
        if len(data) > 4:
            value = struct.pack("<I", start + len(behind))
            behind += data + bytes(len(data) % 2)
        table += struct.pack("<HHI4s", tag, kind, count, value)
    return table + bytes(4) + behind
