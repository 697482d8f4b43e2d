"""Which patches of a bracket are calibrated on: stratified by brightness and motion, seeded.

Random patches miss the highlights, and ranges that miss them clip real scenes inside the network.
So the brightest tile of the short frame (by mean and by peak) and the one that moves most are
always taken; the others are drawn one from each cell of a brightness × motion grid of equal counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pockethdr.brackets.bracket import Bracket

#: Encoded values at or above this count as clipped and tell nothing of motion.
CLIPPED = 0.98
#: Side of the cells that are averaged before frames are compared, so that noise does not count.
CELL = 8

Frames = Sequence[np.ndarray]
Place = tuple[int, int]


class Patches:
    """The patches of a bracket, at most a row of which is held: whole frames may be large.

    Attributes:
        tile: (H, W) of a patch, in pixels of the network's grid.
        size: (H, W) of the frames, mirrored at the bottom and right to at least `tile`.
    """

    def __init__(self, bracket: Bracket, tile: Place) -> None:
        self.tile, self._bracket = tile, bracket
        height, width = bracket.size()
        self.size = max(height, tile[0]), max(width, tile[1])
        self._top, self._strip = -1, list[np.ndarray]()

    def at(self, place: Place) -> list[np.ndarray]:
        """The patch of short, mid and long at (top, left), each 1×C×tile, contiguous."""
        top, left = place
        if top != self._top:
            rows = self._bracket.inputs(slice(top, top + self.tile[0]))
            self._top, self._strip = top, padded(rows, self.tile)
        return cut(self._strip, (0, left), self.tile)


def chosen_patches(patches: Patches, count: int, seed: int) -> list[Place]:
    """(top, left) of at most `count` patches, in reading order.

    Args:
        count: how many; all there are when those are no more.
        seed: the same seed and frames give the same patches.
    """
    places = _places(patches.size, patches.tile)
    if len(places) <= count:
        return places
    mean, peak, motion = np.array([_measures(patches.at(place)) for place in places]).T
    always = [np.lexsort(keys)[-1] for keys in ((peak, mean), (mean, peak), (mean, motion))]
    taken = list(dict.fromkeys(int(index) for index in always))[:count]
    rest = np.setdiff1d(np.arange(len(places)), taken)
    random = np.random.default_rng(seed)
    for cell in _cells(rest, mean, motion, count - len(taken)):
        taken.append(int(random.choice(cell)))
    return [places[index] for index in sorted(taken)]


def padded(frames: Frames, tile: Place) -> list[np.ndarray]:
    """Frames (1×C×H×W) mirrored at the bottom and right to at least `tile`."""
    height, width = frames[0].shape[-2:]
    missing = [(0, max(0, tile[0] - height)), (0, max(0, tile[1] - width))]
    if not any(after for _, after in missing):
        return list(frames)
    return [np.pad(frame, [(0, 0), (0, 0), *missing], mode="symmetric") for frame in frames]


def cut(frames: Frames, place: Place, tile: Place) -> list[np.ndarray]:
    """The patch of each frame, 1×C×tile, contiguous."""
    top, left = place
    window = (..., slice(top, top + tile[0]), slice(left, left + tile[1]))
    return [np.ascontiguousarray(frame[window]) for frame in frames]


def _places(size: Sequence[int], tile: Place) -> list[Place]:
    rows, columns = (
        sorted({*range(0, total - step + 1, step), total - step})
        for total, step in zip(size, tile, strict=True)
    )
    return [(top, left) for top in rows for left in columns]


def _measures(patch: Frames) -> tuple[float, float, float]:
    """Mean and peak of the short frame, and motion between short and mid."""
    short, mid, _ = patch
    half = short.shape[1] // 2
    linear = short[0, half:]
    visible = np.all(mid[0, :half] < CLIPPED, axis=0, keepdims=True)[0]
    difference = np.abs(_cell_means(linear, visible) - _cell_means(mid[0, half:], visible))
    mean = float(linear.mean())
    return mean, float(linear.max()), float(difference.mean()) / (mean + 0.01)


def _cell_means(planes: np.ndarray, visible: np.ndarray) -> np.ndarray:
    side = min(CELL, *planes.shape[-2:])
    rows, columns = (length // side for length in planes.shape[-2:])
    grey = (planes.mean(axis=0) * visible)[: rows * side, : columns * side]
    return grey.reshape(rows, side, columns, side).mean(axis=(1, 3))


def _cells(
    rest: np.ndarray, brightness: np.ndarray, motion: np.ndarray, count: int
) -> list[np.ndarray]:
    """`count` disjoint groups of tiles: rows of like brightness, each cut by motion."""
    if count == 0:
        return []
    rows = math.isqrt(count)
    per_row = np.full(rows, count // rows)
    per_row[: count % rows] += 1
    bounds = np.cumsum(per_row)[:-1] * len(rest) // count
    by_brightness = np.split(rest[np.argsort(brightness[rest], kind="stable")], bounds)
    return [
        cell
        for row, columns in zip(by_brightness, per_row, strict=True)
        for cell in np.array_split(row[np.argsort(motion[row], kind="stable")], columns)
        if cell.size
    ]
