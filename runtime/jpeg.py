"""A JPEG file from strips that are encoded apart, so that no one ever holds the whole picture.

An encoder that starts anew with the same tables does what a restart marker asks for (ITU-T T.81,
F.1.1.5: predictions at zero, on a byte's edge). So the scans of strips of equal height, joined by
restart markers under one header, are the scan of the whole picture.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np

#: Strips must be this high, or a multiple of it, but for the last.
BLOCK = 16
# Rows and columns that are coded together: a grey picture has no colour at half resolution.
_GREY_BLOCK = 8
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
_SOF0, _SOS, _APP0 = 0xC0, 0xDA, 0xE0


@dataclass(frozen=True)
class StripJpeg:
    """A JPEG of `size` (H, W) whose strips are `rows` high; colour is kept at half resolution."""

    size: tuple[int, int]
    rows: int
    quality: int = 95
    grey: bool = False

    def encoded(self, pixels: np.ndarray) -> bytes:
        """One strip, H×W×3 or grey H×W, 8 bits, as a file of its own. Threads may call it at once.

        Decoders make of it what they make of the strip in the whole, but for colours at its edge.
        """
        sampling = None if self.grey else "420"
        return bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(pixels), level=self.quality, subsampling=sampling
            )
        )

    def scan(self, encoded: bytes) -> bytes:
        """The coded blocks of a strip from `encoded`."""
        return _split(encoded)[1]

    def header(self) -> bytes:
        """What precedes the scans, without the start of the image and application segments."""
        width, block = self.size[1], _GREY_BLOCK if self.grey else BLOCK
        shape = (min(self.rows, self.size[0]), width, *(() if self.grey else (3,)))
        segments, _ = _split(self.encoded(np.zeros(shape, np.uint8)))
        blocks = -(-width // block) * (self.rows // block)
        kept = []
        for marker, body in segments:
            if marker == _SOF0:
                body = body[:1] + struct.pack(">HH", *self.size) + body[5:]
            if marker == _SOS:
                kept.append(segment(0xDD, struct.pack(">H", blocks)))
            if marker != _APP0:
                kept.append(segment(marker, body))
        return b"".join(kept)

    def joint(self, index: int) -> bytes:
        """What stands before the scan of strip `index`."""
        return bytes([0xFF, 0xD0 + (index - 1) % 8]) if index else b""


def segment(marker: int, body: bytes) -> bytes:
    """One marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def exif_segment(block: bytes) -> bytes:
    """EXIF as an application segment; `block` is Pillow's, with or without its `Exif\\0\\0`."""
    return segment(0xE1, b"Exif\0\0" + block.removeprefix(b"Exif\0\0"))


def _split(jpeg: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """(marker, body) of each segment up to the scan, and the scan."""
    position, segments = 2, []
    while True:
        marker, length = struct.unpack_from(">xBH", jpeg, position)
        segments.append((marker, jpeg[position + 4 : position + 2 + length]))
        position += 2 + length
        if marker == _SOS:
            return segments, jpeg[position : jpeg.rindex(EOI)]
