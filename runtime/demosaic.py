"""RGGB mosaics and camera colours → linear sRGB, plane by plane.

Planes of one colour each, not interleaved pixels, so that every step is one vector operation. All
functions take windows of an image; the caller adds the margin that a filter needs.
"""

from __future__ import annotations

import cv2
import numpy as np

from pockethdr.brackets.bracket import Camera
from pockethdr.runtime.runner import Array

#: Rows and columns that a window must have beyond what is wanted, for the filters.
MARGIN = 2
# Where clipping sets in, and where a colour is taken for clipped: networks return a little less
# than the clip level for what was clipped.
_CLIPPING, _CLIPPED = 0.8, 0.95

# Malvar's filters, in eighths: green at red or blue; red or blue at the green of its own row (and,
# transposed, of its own column); red at blue and blue at red.
_GREEN = (
    np.array(
        [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]],
        np.float32,
    )
    / 8
)
_ALONG = (
    np.array(
        [
            [0, 0, 0.5, 0, 0],
            [0, -1, 0, -1, 0],
            [-1, 4, 5, 4, -1],
            [0, -1, 0, -1, 0],
            [0, 0, 0.5, 0, 0],
        ],
        np.float32,
    )
    / 8
)
_OPPOSITE = (
    np.array(
        [
            [0, 0, -1.5, 0, 0],
            [0, 2, 0, 2, 0],
            [-1.5, 0, 6, 0, -1.5],
            [0, 2, 0, 2, 0],
            [0, 0, -1.5, 0, 0],
        ],
        np.float32,
    )
    / 8
)


def demosaic(mosaic: Array, gains: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Array:
    """RGGB mosaic H×W → camera RGB 3×H×W, by Malvar, He and Cutler's linear filters (ICASSP 2004).

    The filters lend one colour the detail of another. That holds where colours are balanced and
    steps are small, so they run on fourth roots of the mosaic balanced by `gains` (R, G, B).
    """
    roots = _balanced(mosaic, gains)
    np.maximum(roots, 0.0, out=roots)
    for _ in range(2):
        np.sqrt(roots, out=roots)
    rgb = _interpolated(roots)
    np.maximum(rgb, 0.0, out=rgb)
    for _ in range(2):
        np.square(rgb, out=rgb)
    for plane, gain in zip(rgb, gains, strict=True):
        plane *= np.float32(1 / gain)
    return np.minimum(rgb, 1.0, out=rgb)  # filters overshoot, sensors do not


def camera_to_srgb(rgb: Array, camera: Camera) -> Array:
    """Camera RGB 3×H×W (1.0 = clip level of the short frame) → linear sRGB, written over it.

    Clipped light is white: where green clips it is raised to the mean of white-balanced red and
    blue (else it turns magenta), and where all three clip they fade to grey.
    """
    clipped = [_clipping(plane) for plane in rgb] if rgb.max(initial=0.0) > _CLIPPING else []
    rgb *= np.asarray(camera.wb_gains, np.float32)[:, None, None]
    if clipped:
        _whiten(rgb, clipped)
    # Not `@`: this runs on threads of its own, among which those of a BLAS would only spin.
    mixed = np.einsum("ij,jhw->ihw", np.asarray(camera.ccm, np.float32), rgb)
    return np.maximum(mixed, 0.0, out=rgb)


def _clipping(plane: Array) -> Array:
    """0 below where clipping sets in, 1 where a colour is at its end."""
    return np.clip((plane - np.float32(_CLIPPING)) / np.float32(_CLIPPED - _CLIPPING), 0.0, 1.0)


def _whiten(rgb: Array, clipped: list[Array]) -> None:
    red, green, blue = rgb
    green += clipped[1] * np.maximum((red + blue) / 2 - green, 0.0)
    all_three = np.minimum(np.minimum(clipped[0], clipped[1]), clipped[2])
    for plane in (red, blue):
        plane += all_three * (green - plane)


def _balanced(mosaic: Array, gains: tuple[float, float, float]) -> Array:
    red, green, blue = gains
    balanced = np.empty_like(mosaic)
    gain = np.empty(mosaic.shape[1], np.float32)
    for row, pair in enumerate(((red, green), (green, blue))):
        gain[0::2], gain[1::2] = pair
        np.multiply(mosaic[row::2], gain, out=balanced[row::2])
    return balanced


def _interpolated(mosaic: Array) -> Array:
    """Each site's own colour, and the filters' estimate of the two others."""
    rgb = np.empty((3, *mosaic.shape), np.float32)
    green, along, across, opposite = (
        cv2.filter2D(mosaic, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        for kernel in (_GREEN, _ALONG, _ALONG.T, _OPPOSITE)
    )
    # (row, column) within the quad → its red, green and blue.
    sources = {
        (0, 0): (mosaic, green, opposite),
        (0, 1): (along, mosaic, across),
        (1, 0): (across, mosaic, along),
        (1, 1): (opposite, green, mosaic),
    }
    for (row, column), planes in sources.items():
        for channel, plane in enumerate(planes):
            rgb[channel, row::2, column::2] = plane[row::2, column::2]
    return rgb
