"""Fills a network's inputs with the window of a bracket that a tile sees.

Values are written where the runtime will read them, without arrays in between: both halves of a
frame's channels (encoded, and linear over its exposure ratio) come from tables over the codes.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from pockethdr.brackets.bracket import CHANNELS, RAW, Bracket, Pixels
from pockethdr.brackets.stored import Stored, looked_up
from pockethdr.runtime.runner import Array
from pockethdr.runtime.tiling import Span, Tile, reflected

# Rows of the network's grid done at a time: small enough that a core's cache holds what is touched.
_ROWS = 32
_MEANS = cv2.INTER_AREA

# Where along an axis the pixels lie, and which of them are wanted: all, or some by index.
_Axis = tuple[slice, slice | np.ndarray]


class Feed:
    """The frames of one bracket. Threads may fill at once; nothing is kept between calls."""

    def __init__(self, bracket: Bracket) -> None:
        self.size, self._raw = bracket.size(), bracket.domain == RAW
        self._channels = CHANNELS[bracket.domain]
        self._frames = [
            _Halves(frame.pixels, bracket, ratio)
            for frame, ratio in zip(bracket.frames, bracket.ratios, strict=True)
        ]

    def fill(self, index: int, tile: Tile, view: Array) -> None:
        """Write frame `index` (0 short, 1 mid, 2 long) under `tile` into an H×W×C view.

        Beyond the far borders whole pixels of the network's grid are reflected.
        """
        write = _write_packed if self._raw else _write_rgb
        rows = reflected(tile.rows.indices(), self.size[0])
        columns = _axis(reflected(tile.columns.indices(), self.size[1]))
        for start in range(0, len(rows), _ROWS):
            strip = _axis(rows[start : start + _ROWS])
            for half, plane in enumerate(self._halves(index, strip[0], columns[0])):
                write(plane, strip[1], columns[1], view[start : start + _ROWS], half)

    def thumbnail(self, index: int, size: tuple[int, int]) -> Array:
        """Frame `index` as the network's input averaged down to `size` (h, w): 1×C×h×w."""
        height, width = self.size
        step = max(1, min(height // size[0], width // size[1]))
        strips = []
        for start in range(0, height, _ROWS * step):
            rows = min(_ROWS * step, height - start)
            view = np.empty((rows, width, self._channels), np.float32)
            tile = Tile(Span(start, rows, (0, 0)), Span(0, width, (0, 0)))
            self.fill(index, tile, view)
            strips.append(_resized(view, (max(1, rows // step), max(1, width // step))))
        small = _resized(np.concatenate(strips), size)
        return np.ascontiguousarray(small.transpose(2, 0, 1)[None])

    def _halves(self, index: int, rows: slice, columns: slice) -> Iterator[Array]:
        quad = 2 if self._raw else 1
        rows, columns = (slice(s.start * quad, s.stop * quad) for s in (rows, columns))
        return self._frames[index].read(rows, columns)


class _Halves:
    """One frame's pixels as coded, and linear over the exposure ratio."""

    def __init__(self, pixels: Pixels, bracket: Bracket, ratio: float) -> None:
        self._pixels, self._ratio = pixels, np.float32(ratio)
        self._response = None if bracket.domain == RAW else bracket.response
        if isinstance(pixels, Stored):
            self._tables = pixels.table(), pixels.table(self._response, ratio)

    def read(self, rows: slice, columns: slice) -> Iterator[Array]:
        """Both halves of a window, H×W or H×W×3."""
        if isinstance(self._pixels, Stored):
            # Whole rows are read in one call; the tables see the window alone.
            codes = self._pixels.codes.read(rows)[:, columns]
            yield from (looked_up(codes, table) for table in self._tables)
            return
        encoded = np.asarray(self._pixels[rows], np.float32)[:, columns]
        yield encoded
        linear = self._response(encoded) if self._response else encoded
        yield np.asarray(linear / self._ratio, np.float32)


def _write_packed(
    mosaic: Array, rows: slice | np.ndarray, columns: slice | np.ndarray, view: Array, half: int
) -> None:
    """R G and G B lie side by side in an RGGB mosaic: each pair is copied as one number."""
    pairs = np.ascontiguousarray(mosaic).view(np.complex64)
    for row in (0, 1):
        pair, channel = pairs[row::2][rows][:, columns], 4 * half + 2 * row
        if view.strides[-1] == view.itemsize:
            view.view(np.complex64)[..., channel // 2] = pair
        else:
            view[..., channel], view[..., channel + 1] = pair.real, pair.imag


def _write_rgb(
    image: Array, rows: slice | np.ndarray, columns: slice | np.ndarray, view: Array, half: int
) -> None:
    for channel, plane in enumerate(cv2.split(image[rows][:, columns])):
        view[..., 3 * half + channel] = plane


def _resized(image: Array, size: tuple[int, int]) -> Array:
    if image.shape[:2] == size:
        return image
    # OpenCV averages four channels at most.
    planes = [
        cv2.resize(np.ascontiguousarray(image[..., at : at + 4]), size[::-1], None, 0, 0, _MEANS)
        for at in range(0, image.shape[2], 4)
    ]
    return np.concatenate([plane.reshape(*size, -1) for plane in planes], axis=-1)


def _axis(indices: np.ndarray) -> _Axis:
    first = int(indices.min())
    window = slice(first, int(indices.max()) + 1)
    counts_up = bool((np.diff(indices) == 1).all())
    return window, slice(None) if counts_up else indices - first
