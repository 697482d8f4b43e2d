"""Hand-held brackets, laid over each other: one homography a frame, onto the middle one.

Found on small images whose gradients are alike whatever the exposure: encoded luminance, stretched
to its own quantiles, by OpenCV's enhanced correlation coefficient (Evangelidis and Psarakis, PAMI
2008) from coarse to fine, masked to what both frames expose. Raw mosaics are moved one colour site
at a time, so that no colour mixes with another. Frames are read and moved strip by strip, so that
memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import RAW, Bracket, Frame, linear_to_srgb, pack, unpack
from pockethdr.brackets.spool import Spool
from pockethdr.brackets.stored import Stored

_LONGEST = 800
_LEVELS = 4
# Rows of the network's grid that are moved at a time.
_ROWS = 256
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
# A hand moves a frame by less than this share of it; a homography that says more is a wrong one.
_FARTHEST = 0.1
# The correlation below which the frames are left as they are.
_TRUSTED = 0.6
# The difference that must go, and the share of pixels that must show it.
_BETTER, _SEEN = 0.95, 0.02

Homography = NDArray[np.float32]


def aligned(bracket: Bracket) -> Bracket:
    """The bracket with short and long moved onto mid; `notes` says by how much, or why not.

    Beyond a moved frame's own border its edge is repeated.
    """
    short, mid, long = bracket.frames
    anchor, scale = _grey(bracket, mid)
    moved, notes = [], []
    for frame in (short, long):
        found = _homography(anchor, _grey(bracket, frame)[0])
        name = frame.path.name if frame.path else "a frame"
        if found is None:
            notes.append(f"{name} was not moved: nothing fits better")
            moved.append(frame)
            continue
        full = _scaled(found, scale)
        height, width = bracket.size()
        notes.append(f"{name} moved by {_shift(full, height, width):.1f} pixels")
        moved.append(replace(frame, pixels=_warped(frame, full, raw=bracket.domain == RAW)))
    frames = (moved[0], mid, moved[1])
    return replace(bracket, frames=frames, notes=(*bracket.notes, *notes))


def _grey(bracket: Bracket, frame: Frame) -> tuple[NDArray[np.float32], float]:
    """The network's grid averaged down, encoded, 0..1; and its scale (< 1)."""
    height, width = bracket.size()
    raw = bracket.domain == RAW
    scale = min(1.0, _LONGEST / max(height, width))
    step, strips = int(1 / scale), []
    for rows in _strips(height, 32 * step):
        pixels = _rows_of(frame, rows, raw=raw)
        grey = linear_to_srgb(pack(pixels).mean(axis=0)) if raw else pixels.mean(axis=2)
        strips.append(_averaged(grey, max(1, len(grey) // step), width // step))
    small = _averaged(np.concatenate(strips), round(height * scale), round(width * scale))
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32), scale


def _rows_of(frame: Frame, rows: slice, *, raw: bool) -> NDArray[np.float32]:
    quad = 2 if raw else 1
    return np.asarray(frame.pixels[slice(rows.start * quad, rows.stop * quad)], np.float32)


def _averaged(grey: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _homography(anchor: NDArray[np.float32], other: NDArray[np.float32]) -> Homography | None:
    """Where a pixel of `anchor` lies in `other`."""
    first, second = _comparable(anchor, other)
    mask = (_exposed(anchor) & _exposed(other)).astype(np.uint8) * 255
    found, likeness = np.eye(3, dtype=np.float32), 0.0
    for level in reversed(range(_LEVELS)):
        step = 0.5**level
        small = [cv2.resize(x, None, fx=step, fy=step, interpolation=cv2.INTER_AREA)
                 for x in (first, second, mask)]  # fmt: skip
        motion = cv2.MOTION_HOMOGRAPHY if level < 2 else cv2.MOTION_EUCLIDEAN
        start = _scaled(found, 1 / step)
        start = start if motion == cv2.MOTION_HOMOGRAPHY else start[:2].copy()
        try:
            likeness, moved = cv2.findTransformECC(
                small[0], small[1], start, motion, _CRITERIA, small[2], 5
            )
        except cv2.error:  # does not converge
            return None
        whole = np.vstack([moved, [[0, 0, 1]]]) if len(moved) == 2 else np.asarray(moved)
        found = _scaled(whole.astype(np.float32), step)
    height, width = anchor.shape
    far = _shift(found, height, width) > _FARTHEST * max(height, width)
    if far or likeness < _TRUSTED or not _closer(first, second, anchor, other, found):
        return None
    return found


def _closer(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    anchor: NDArray[np.float32],
    other: NDArray[np.float32],
    homography: Homography,
) -> bool:
    """Whether the frames differ less once moved, where both expose: noise alone can mislead."""
    before = np.abs(first - second)[_exposed(anchor) & _exposed(other)]
    moved = _exposed(_moved(other, homography))
    after = np.abs(first - _moved(second, homography))[_exposed(anchor) & moved]
    enough = min(before.size, after.size) > _SEEN * anchor.size
    return enough and bool(np.median(after) < _BETTER * np.median(before))


def _exposed(encoded: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (encoded > 0.03) & (encoded < 0.95)


def _comparable(
    anchor: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both with the tones of their ranks where both expose: alike at any exposure and response."""
    first, second = (
        cv2.equalizeHist(np.round(x * 255).clip(0, 255).astype(np.uint8)) for x in (anchor, other)
    )
    return np.divide(first, 255, dtype=np.float32), np.divide(second, 255, dtype=np.float32)


def _scaled(homography: Homography, scale: float) -> Homography:
    """The same motion on a grid that is 1/scale as fine."""
    to = np.diag([scale, scale, 1]).astype(np.float32)
    found = np.linalg.inv(to) @ homography @ to
    return (found / found[2, 2]).astype(np.float32)


def _shift(homography: Homography, height: int, width: int) -> float:
    """How far the corner that moves most moves, in pixels."""
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float32)
    return float(np.abs(cv2.perspectiveTransform(corners, homography) - corners).max())


def _warped(frame: Frame, homography: Homography, *, raw: bool) -> NDArray[np.float32] | Stored:
    """The frame's pixels seen through the homography, stored as they were stored."""
    kept = frame.pixels
    if not isinstance(kept, Stored):
        return np.concatenate(list(_moved_strips(np.asarray(kept), homography, raw=raw)))
    spool, row = Spool(kept.codes.shape, kept.codes.dtype), 0
    for strip in _moved_strips(kept.codes, homography, raw=raw):
        spool.write(row, 0, strip)
        row += len(strip)
    return Stored(spool, kept.values)


def _moved_strips(
    codes: np.ndarray | Spool, homography: Homography, *, raw: bool
) -> Iterator[np.ndarray]:
    """The moved image from top to bottom, each strip made of the rows that it is seen through."""
    quad = 2 if raw else 1
    size = codes.shape[0] // quad, codes.shape[1] // quad
    for rows in _strips(size[0], _ROWS):
        seen = _seen_rows(homography, rows, size)
        window = slice(seen.start * quad, seen.stop * quad)
        block = codes.read(window) if isinstance(codes, Spool) else codes[window]
        own = np.asarray(_down(-seen.start) @ homography @ _down(rows.start), np.float32)
        count = rows.stop - rows.start
        if raw:
            yield unpack(np.stack([_moved(plane, own, count) for plane in pack(block)]))
        else:
            yield _moved(block, own, count)


def _seen_rows(homography: Homography, rows: slice, size: tuple[int, int]) -> slice:
    """The rows of an image of `size` between whose pixels `rows` of the moved one are found."""
    height, width = size
    corners = [[[x, y] for x in (0, width) for y in (rows.start, rows.stop)]]
    found = cv2.perspectiveTransform(np.array(corners, np.float32), homography)[..., 1]
    start = int(np.clip(np.floor(found.min()) - 1, 0, height - 1))
    return slice(start, int(np.clip(np.ceil(found.max()) + 2, start + 1, height)))


def _down(rows: int) -> Homography:
    return np.array([[1, 0, 0], [0, 1, rows], [0, 0, 1]], np.float32)


def _strips(height: int, rows: int) -> Iterator[slice]:
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def _moved(image: np.ndarray, homography: Homography, height: int | None = None) -> np.ndarray:
    """The first `height` rows of an image seen through a homography: as many as it has itself."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (image.shape[1], height or image.shape[0])
    contiguous = np.ascontiguousarray(image)
    return np.asarray(
        cv2.warpPerspective(contiguous, homography, size, None, flags, cv2.BORDER_REPLICATE)
    )
