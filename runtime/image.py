"""What a network made of a bracket: an HDR image that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from pockethdr.brackets.bracket import RAW, Camera
from pockethdr.errors import BracketError
from pockethdr.runtime.demosaic import MARGIN, camera_to_srgb, demosaic
from pockethdr.runtime.runner import Array
from pockethdr.runtime.tone import THUMBNAIL, Tone, tone_of

#: Rows of a strip: a multiple of a JPEG's blocks, small enough for a core's cache.
STRIP = 64


class Planes(Protocol):
    """H×W×C float32, window by window: a `Spool`, or `InMemory`."""

    shape: tuple[int, ...]

    def read(self, rows: slice, columns: slice) -> Array: ...


@dataclass(frozen=True)
class InMemory:
    """`Planes` of an array."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self, rows: slice, columns: slice) -> Array:
        return self.array[rows, columns]


@dataclass(frozen=True)
class HDRImage:
    """Linear light; 1.0 = clip level of the short frame.

    Attributes:
        planes: H×W×C as the network returned it. raw: packed RGGB, in the flipped geometry of the
            network; rgb: in sensor orientation.
        domain: raw or rgb.
        camera: of the bracket; None for rgb.
        orientation: EXIF 1..8 of the frames. All methods return pixels turned upright.
        flips: (vertical, horizontal) to undo.
        padding: rows and columns at the bottom and right of the sensor's geometry to leave out.
        runner: precisely what ran the artifact.
        tiles: how many runs made the image.
        seconds: wall time per stage.
        notes: what a reader of the result must know, e.g. where exposure ratios come from.
        source: the file of the reference frame, whose EXIF goes into what is written.
    """

    planes: Planes
    domain: str
    camera: Camera | None
    orientation: int = 1
    flips: tuple[bool, bool] = (False, False)
    padding: tuple[int, int] = (0, 0)
    runner: str = ""
    tiles: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: Path | None = None

    @property
    def pixels(self) -> Array:
        """All planes, C×H×W, as the network returned them."""
        whole = self.planes.read(slice(None), slice(None))
        return np.ascontiguousarray(whole.transpose(2, 0, 1))

    @property
    def size(self) -> tuple[int, int]:
        """H, W of the upright picture, in pixels of the sensor."""
        (top, bottom), (left, right) = self._spare
        height, width = self._stored_size
        return height - top - bottom, width - left - right

    def strips(self) -> Iterator[slice]:
        """Rows of the upright picture, some at a time, top to bottom."""
        height = self.size[0]
        for start in range(0, height, STRIP):
            yield slice(start, min(start + STRIP, height))

    def strip(self, rows: slice) -> Array:
        """Rows of the upright picture, linear sRGB 3×H×W.

        What the network returns below 0 is no light; white-balanced raw may exceed 1.
        """
        (top, _), (left, _) = self._spare
        start, stop = rows.start + top, rows.stop + top
        if self._reversed:
            height = self._stored_size[0]
            start, stop = height - stop, height - start
        window = self._turned(self._window(start, stop))
        return np.ascontiguousarray(window[:, :, left : left + self.size[1]])

    def rgb(self) -> Array:
        """The whole picture upright, H×W×3 linear sRGB."""
        return np.ascontiguousarray(self.strip(slice(0, self.size[0])).transpose(1, 2, 0))

    def tone(self, *, exposure: float = 0.0) -> Tone:
        """How the picture is shown on a display of 8 bits; `exposure` in stops."""
        return tone_of(self.thumbnail, self.size, exposure=exposure)

    def preview(self, *, exposure: float = 0.0) -> np.ndarray:
        """8-bit sRGB H×W×3, tone mapped and turned upright; `exposure` in stops."""
        tone = self.tone(exposure=exposure)
        return np.concatenate([tone.apply(self.strip(s), s.start).pixels for s in self.strips()])

    @cached_property
    def thumbnail(self) -> Array:
        """The upright picture averaged down, linear sRGB 3×h×w."""
        step = max(1, max(self.planes.shape[:2]) // THUMBNAIL)
        rows = self.planes.shape[0]
        small = [
            _shrunk(self.planes.read(slice(row, min(row + 16 * step, rows)), slice(None)), step)
            for row in range(0, rows, 16 * step)
        ]
        planes = np.maximum(np.concatenate(small), 0).transpose(2, 0, 1)
        if self.domain == RAW:
            red, green, green2, blue = planes
            planes = camera_to_srgb(np.stack([red, (green + green2) / 2, blue]), self._camera)
        return np.ascontiguousarray(self._turned(planes))

    @property
    def _camera(self) -> Camera:
        return self.camera or Camera()

    @property
    def _quad(self) -> int:
        return 2 if self.domain == RAW else 1

    def _turned(self, planes: np.ndarray) -> np.ndarray:
        return turned(planes, self.flips, self.orientation)

    @cached_property
    def _corner(self) -> int:
        """Which corner of the stored planes is top left: 0 and 1 at the top, 2 and 3 below."""
        corners = np.arange(4).reshape(1, 2, 2)
        return int(self._turned(corners)[0, 0, 0])

    @property
    def _stored_size(self) -> tuple[int, int]:
        """H, W of all that is stored, turned upright."""
        height, width = (side * self._quad for side in self.planes.shape[:2])
        return (width, height) if self._transposed else (height, width)

    @cached_property
    def _spare(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(top, bottom), (left, right) of what is stored, turned upright, that is padding."""
        sides = np.zeros((1, 3, 3), int)
        sides[0, 2, 1], sides[0, 1, 2] = self.padding
        upright = turned(sides, (False, False), self.orientation)[0]
        top, left, right, bottom = upright.ravel()[1::2].tolist()
        return (top, bottom), (left, right)

    @property
    def _transposed(self) -> bool:
        return self.orientation >= 5

    @property
    def _reversed(self) -> bool:
        """Whether the picture's rows run against the stored rows (or columns)."""
        return self._corner % 2 == 1 if self._transposed else self._corner >= 2

    def _window(self, start: int, stop: int) -> Array:
        """Stored rows (columns where transposed) start .. stop, linear sRGB 3×H×W."""
        if self.domain != RAW:
            return np.maximum(self._read(start, stop), 0).transpose(2, 0, 1)
        first = max(0, start - MARGIN) // 2
        mosaic = _unpacked(self._read(first, -(-(stop + MARGIN) // 2)))
        rgb = demosaic(mosaic, self._camera.wb_gains)
        inside = slice(start - 2 * first, stop - 2 * first)
        wanted = rgb[:, :, inside] if self._transposed else rgb[:, inside]
        return camera_to_srgb(np.ascontiguousarray(wanted), self._camera)

    def _read(self, start: int, stop: int) -> Array:
        along = slice(start, min(stop, self.planes.shape[1 if self._transposed else 0]))
        across = slice(None)
        windows = (across, along) if self._transposed else (along, across)
        return self.planes.read(*windows)


def image_of(pixels: Array, domain: str, camera: Camera | None = None, **rest: object) -> HDRImage:
    """An image of C×H×W pixels in memory; `rest` are fields of `HDRImage`."""
    planes = InMemory(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return HDRImage(planes, domain, camera, **rest)  # type: ignore[arg-type]


def turned(planes: np.ndarray, flips: tuple[bool, bool], orientation: int) -> np.ndarray:
    """A view of C×H×W planes with `flips` undone, turned and mirrored to how the scene is seen.

    Args:
        orientation: EXIF 1..8.

    Raises:
        BracketError: any other orientation.
    """
    if orientation not in _TURNS:
        raise BracketError(f"EXIF orientation {orientation}", expected="1 to 8")
    vertical, horizontal = flips
    planes = planes[:, ::-1] if vertical else planes
    planes = planes[:, :, ::-1] if horizontal else planes
    mirrored, quarters = _TURNS[orientation]
    planes = planes[:, :, ::-1] if mirrored else planes
    return np.rot90(planes, quarters, axes=(1, 2))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """H×W×C pixels turned by their EXIF orientation; see `turned`."""
    view = turned(image.transpose(2, 0, 1), (False, False), orientation)
    return np.ascontiguousarray(view.transpose(1, 2, 0))


# EXIF orientation → (mirror left-right first, then quarter turns counter-clockwise).
_TURNS = {
    1: (False, 0),
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 1),
    6: (False, 3),
    7: (True, 3),
    8: (False, 1),
}


def _unpacked(packed: Array) -> Array:
    """H×W×4 RGGB → the mosaic 2H×2W: each pair of neighbours is copied as one number."""
    height, width = packed.shape[:2]
    mosaic = np.empty((2 * height, 2 * width), np.float32)
    pairs = np.ascontiguousarray(packed).view(np.complex64)
    for row in (0, 1):
        mosaic.view(np.complex64)[row::2] = pairs[..., row]
    return mosaic


def _shrunk(block: Array, step: int) -> Array:
    """Means of step×step pixels; what is left over at the far borders belongs to the last."""
    size = max(1, block.shape[1] // step), max(1, block.shape[0] // step)
    small = cv2.resize(block, size, interpolation=cv2.INTER_AREA) if step > 1 else block
    return np.asarray(small, np.float32).reshape(size[1], size[0], -1)
