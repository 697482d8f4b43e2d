"""The container of an Ultra HDR JPEG (version 1): a picture for every display, and behind it the
map of what an HDR display adds.

    log2 gain(p) = log2((light(p) + 1/64) / (shown(p) + 1/64)), 0 where light is no brighter

The primary image says in XMP (GContainer) and in an MPF index where the map lies; the map says in
XMP (hdrgm) what its codes mean. https://developer.android.com/media/platform/hdr-image-format
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np

from pockethdr.runtime.jpeg import segment, with_segments
from pockethdr.runtime.runner import Array

_OFFSET = 1 / 64
_QUALITY = 90
# A display that adds less than this adds nothing; readers divide by it.
_LEAST_STOPS = 0.1
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


def log_gain(light: Array, shown: Array) -> Array:
    """log2 of what an HDR display adds; both linear, 1.0 = display white."""
    gain = np.log2((light + np.float32(_OFFSET)) / (shown + np.float32(_OFFSET)))
    return np.maximum(gain, 0.0)


def gain_map(gains: Array) -> GainMap:
    """H×W `log_gain` as a file."""
    stops = max(float(gains.max()), _LEAST_STOPS)
    codes = np.round(gains * (255 / stops)).astype(np.uint8)
    values = {
        "GainMapMin": 0.0, "GainMapMax": stops, "Gamma": 1.0, "OffsetSDR": _OFFSET,
        "OffsetHDR": _OFFSET, "HDRCapacityMin": 0.0, "HDRCapacityMax": stops,
    }  # fmt: skip
    fields = " ".join(f'hdrgm:{name}="{value:.6f}"' for name, value in values.items())
    says = f'{_HDRGM} {fields} hdrgm:BaseRenditionIsHDR="False">'
    jpeg = bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(codes), level=_QUALITY))
    return GainMap(with_segments(jpeg, _xmp(says)), stops)


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
