"""What displays show, on disk, strip by strip: Ultra HDR, JPEG, PNG; AVIF as a whole."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import Image

from pockethdr.brackets.spool import Spool
from pockethdr.runtime.gainmap import container, gain_map, gains_of, luminance_of
from pockethdr.runtime.image import STRIP, HDRImage
from pockethdr.runtime.jpeg import EOI, SOI, StripJpeg, exif_segment
from pockethdr.runtime.parallel import in_order
from pockethdr.runtime.runner import Array
from pockethdr.runtime.tone import Tone

_PNG_EFFORT = 3
# ITU-R BT.2408: display white of an SDR picture inside an HDR one, in cd/m².
_WHITE = 203.0
_BT2020_OF_SRGB = np.array(
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]], np.float32
)


def write_ultra_hdr(
    image: HDRImage, path: Path, exif: Image.Exif, threads: int, *, exposure: float
) -> str:
    """An 8-bit JPEG with a gain map, which HDR displays turn into the linear image.

    What the display shows then is max(what the JPEG shows, linear light at the same exposure).
    """
    tone, jpeg = image.tone(exposure=exposure), StripJpeg(image.size, STRIP)
    gains, peak = Spool(image.size, "uint16"), 0

    def coded(rows: slice) -> tuple[bytes, int]:
        toned = tone.apply(image.strip(rows), rows.start)
        encoded = jpeg.encoded(toned.pixels)
        gain = gains_of(np.maximum(toned.light, toned.shown), luminance_of(encoded))
        gains.write(rows.start, 0, gain)
        return jpeg.scan(encoded), int(gain.max())

    start = SOI + exif_segment(exif.tobytes())
    with path.open("wb") as file:
        file.write(start + container(len(start), 0, 0) + jpeg.header())
        for index, (scan, most) in enumerate(in_order(coded, image.strips(), threads)):
            file.write(jpeg.joint(index) + scan)
            peak = max(peak, most)
        file.write(EOI)
        primary, added = file.tell(), gain_map(gains, image.strips(), peak, threads)
        file.write(added.jpeg)
        file.seek(len(start))
        file.write(container(len(start), primary, len(added.jpeg)))
    return f"Ultra HDR, 8-bit sRGB and up to {2**added.stops:.1f} × display white"


def write_jpeg(
    image: HDRImage, path: Path, exif: Image.Exif, threads: int, *, exposure: float
) -> str:
    """The tone-mapped picture as a plain JPEG."""
    tone, jpeg = image.tone(exposure=exposure), StripJpeg(image.size, STRIP)

    def coded(rows: slice) -> bytes:
        return jpeg.scan(jpeg.encoded(tone.apply(image.strip(rows), rows.start).pixels))

    with path.open("wb") as file:
        file.write(SOI + exif_segment(exif.tobytes()) + jpeg.header())
        for index, scan in enumerate(in_order(coded, image.strips(), threads)):
            file.write(jpeg.joint(index) + scan)
        file.write(EOI)
    return "8-bit sRGB"


def write_png(
    image: HDRImage, path: Path, exif: Image.Exif, threads: int, *, exposure: float
) -> str:
    """The tone-mapped picture without loss."""
    tone, packer = image.tone(exposure=exposure), zlib.compressobj(_PNG_EFFORT)
    height, width = image.size
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        _chunk(file, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        lines = in_order(lambda rows: _png_lines(image, tone, rows), image.strips(), threads)
        for strip in lines:
            _chunk(file, b"IDAT", packer.compress(strip))
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"")
    return "8-bit sRGB"


def write_avif(
    image: HDRImage, path: Path, exif: Image.Exif, threads: int, *, exposure: float
) -> str:
    """10 bits, BT.2020 primaries, PQ (SMPTE ST 2084). The encoder wants the whole picture."""
    gain = np.float32(image.tone(exposure=exposure).gain * _WHITE / 10000)
    codes = np.empty((*image.size, 3), np.uint16)
    for rows in image.strips():
        strip = image.strip(rows)
        mixed = np.einsum("ij,jhw->ihw", _BT2020_OF_SRGB, strip)
        codes[rows] = np.round(_pq(mixed * gain) * 1023).transpose(1, 2, 0)
    options: dict[str, Any] = {"bitspersample": 10, "primaries": 9, "transfer": 16, "matrix": 9}
    path.write_bytes(
        imagecodecs.avif_encode(codes, level=90, speed=8, numthreads=threads, **options)
    )
    return f"10-bit PQ, display white at {_WHITE:g} cd/m², no EXIF"


def _pq(light: Array) -> Array:
    """SMPTE ST 2084: fractions of 10000 cd/m² → codes in [0, 1]."""
    power = np.power(np.clip(light, 0, 1), 0.1593017578125)
    return np.asarray(np.power((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power), 78.84375))


def _png_lines(image: HDRImage, tone: Tone, rows: slice) -> bytes:
    """Scan lines with PNG's filter 1, the difference to the left neighbour."""
    pixels = tone.apply(image.strip(rows), rows.start).pixels
    steps = pixels.copy()
    steps[:, 1:] -= pixels[:, :-1]
    filters = np.ones((len(steps), 1), np.uint8)
    return np.hstack([filters, steps.reshape(len(steps), -1)]).tobytes()


def _chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    if data or kind == b"IEND":
        checked = kind + data
        file.write(struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked)))
