"""The container of an Ultra HDR JPEG (version 1): a picture for every display, and behind it the
map from it to what an HDR display shows.

    stops = log2((wanted + 1/64) / (shown + 1/64))
    code = 255 · ((stops - least) / (most - least)) ^ γ

of luminances. `shown` is read back from the JPEG as written: rounding and coding move it by a
percent or two, which a map of the picture's own size mends. So `least` is a little below zero, and
γ gives most codes to the many pixels that are nearly right (docs/decisions/012-gain-map.md).

The primary image says in XMP (GContainer) and in an MPF index where the map lies; the map says in
XMP (hdrgm) what its codes mean. https://developer.android.com/media/platform/hdr-image-format
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import imagecodecs
import numpy as np

from pockethdr.brackets.bracket import LUMINANCE, srgb_to_linear
from pockethdr.brackets.spool import Spool
from pockethdr.runtime.image import STRIP
from pockethdr.runtime.jpeg import EOI, SOI, StripJpeg, segment
from pockethdr.runtime.parallel import in_order
from pockethdr.runtime.runner import Array

_OFFSET, _GAMMA, _QUALITY = 1 / 64, 1 / 3, 95
# A display that adds less than this adds nothing; readers divide by it.
_LEAST_STOPS = 0.1
# From what coding made too bright to where PQ ends (10000 cd/m² over the 203 of display white), in
# 16-bit steps: the file's own steps are known only when the whole picture has been seen.
_LOWEST, _HIGHEST = -0.05, float(np.log2(10000 / 203))
_STEPS = 65535 / (_HIGHEST - _LOWEST)
# Codes of a decoded JPEG over 256, and JFIF's matrix, which decoders round to whole codes.
_WHITE = 255 * 256
_RGB_OF_YCC = np.array(
    [[1, 0, 1.402, -1.402 * 128 * 256], [1, -0.344136, -0.714136, 1.058272 * 128 * 256],
     [1, 1.772, 0, -1.772 * 128 * 256]], np.float32,
)  # fmt: skip
_LINEAR = srgb_to_linear(np.minimum(np.arange(65536, dtype=np.float32) / _WHITE, 1))
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description {}'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
_HDRGM = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
_CONTAINER = (
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
)
_ITEM = '<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" {}/></rdf:li>'


@dataclass(frozen=True)
class GainMap:
    """The map as a JPEG file of its own.

    Attributes:
        stops: log2 of the largest gain.
    """

    jpeg: bytes
    stops: float


def luminance_of(jpeg: bytes) -> Array:
    """H×W linear luminance that a colour JPEG shows, 1.0 = white."""
    coded = imagecodecs.jpeg8_decode(jpeg, outcolorspace="YCBCR")
    rgb = cv2.transform(np.multiply(coded, 256, dtype=np.uint16), _RGB_OF_YCC)
    return np.asarray(cv2.transform(cv2.LUT(rgb, _LINEAR), LUMINANCE[None]), np.float32)


def gains_of(wanted: Array, shown: Array) -> np.ndarray:
    """H×W stops between two linear luminances, in the 16-bit steps that `gain_map` takes."""
    gain = (wanted + np.float32(_OFFSET)) / (shown + np.float32(_OFFSET))
    stops = np.asarray(cv2.log(gain), np.float32)
    stops *= np.float32(_STEPS / np.log(2))
    stops += np.float32(0.5 - _LOWEST * _STEPS)
    return np.clip(stops, 0, 65535, out=stops).astype(np.uint16)


def gain_map(gains: Spool, strips: Iterable[slice], peak: int, threads: int) -> GainMap:
    """`gains_of` a whole picture, the largest of them `peak`, as a file."""
    most = max(_LOWEST + peak / _STEPS, _LEAST_STOPS)
    share = np.arange(65536) / (_STEPS * (most - _LOWEST))
    table = np.round(255 * np.minimum(share, 1) ** _GAMMA).astype(np.uint8)
    jpeg = StripJpeg((gains.shape[0], gains.shape[1]), STRIP, _QUALITY, grey=True)

    def coded(strip: slice) -> bytes:
        return jpeg.scan(jpeg.encoded(cv2.LUT(gains.read(strip), table)))

    parts = [SOI, _meaning(most), jpeg.header()]
    for index, scan in enumerate(in_order(coded, strips, threads)):
        parts += [jpeg.joint(index), scan]
    return GainMap(b"".join((*parts, EOI)), most)


def container(before: int, primary: int, appended: int) -> bytes:
    """The segments of the primary image that announce the map; of the same length for any sizes.

    Args:
        before: bytes of the file in front of these segments.
        primary, appended: bytes of the whole primary image, and of the map right behind it.
    """
    items = _ITEM.format('Item:Semantic="Primary"') + _ITEM.format(
        f'Item:Semantic="GainMap" Item:Length="{appended:010d}"'
    )
    xmp = _xmp(
        f"{_HDRGM} {_CONTAINER}><Container:Directory><rdf:Seq>{items}</rdf:Seq>"
        "</Container:Directory>"
    )
    # Offsets in the index count from its own header: after the marker, the length and `MPF\0`.
    origin = before + len(xmp) + 8
    return xmp + segment(0xE2, b"MPF\0" + _index(primary, appended, max(0, primary - origin)))


def _meaning(most: float) -> bytes:
    """What the codes of a map up to `most` stops mean."""
    values = {
        "GainMapMin": _LOWEST, "GainMapMax": most, "Gamma": _GAMMA, "OffsetSDR": _OFFSET,
        "OffsetHDR": _OFFSET, "HDRCapacityMin": 0.0, "HDRCapacityMax": most,
    }  # fmt: skip
    fields = " ".join(f'hdrgm:{name}="{value:.6f}"' for name, value in values.items())
    return _xmp(f'{_HDRGM} {fields} hdrgm:BaseRenditionIsHDR="False">')


def _xmp(description: str) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _XMP.format(description).encode())


def _index(primary: int, appended: int, offset: int) -> bytes:
    """CIPA DC-007: a TIFF header, three entries, and a record for each of the two images."""
    entries_at = 8 + 2 + 3 * 12 + 4
    return b"".join(
        (
            struct.pack(">2sHIH", b"MM", 42, 8, 3),
            struct.pack(">HHI4s", 0xB000, 7, 4, b"0100"),
            struct.pack(">HHII", 0xB001, 4, 1, 2),
            struct.pack(">HHIII", 0xB002, 7, 32, entries_at, 0),
            struct.pack(">IIIHH", 0x030000, primary, 0, 0, 0),
            struct.pack(">IIIHH", 0, appended, offset, 0, 0),
        )
    )
