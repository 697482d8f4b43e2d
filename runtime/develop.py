"""From what a network returns to something a person can look at.

Camera RGB → white balance → colour matrix gives linear sRGB for the HDR files. The preview is tone
mapped locally: log luminance is split into a smooth base and its detail by a guided filter (He, Sun
and Tang, ECCV 2010), the base alone is compressed around the scene's key (Reinhard, "Parameter
estimation for photographic tone reproduction", JGT 2002), the detail is put back as it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from pockethdr.brackets.bracket import Camera, linear_to_srgb
from pockethdr.errors import BracketError
from pockethdr.runtime.runner import Array

# Rec. 709 luminance of linear sRGB.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
# 2^-20 of the short frame's clip level is far below any phone's noise.
_DARKEST = np.float32(2.0**-20)
# Where the brightest half percent of the base goes, in stops below display white.
_HEADROOM = 0.15
# Contrast of the base: never flatter than this, however wide the scene, and never steeper than it.
_FLATTEST, _STEEPEST = 0.55, 1.0
_KEY, _DARKEST_KEY, _BRIGHTEST_KEY = 0.18, 0.06, 0.30
# Display luminance at which the toe has halved what is shown.
_TOE = 0.006
# Share of the scene's middle luminance below which tones are no longer told apart by ratio.
_FLOOR = 0.2
# Rows done at a time.
_STRIP = 128
# Squared stops: differences of luminance well below its root are detail, well above it are edges.
_EDGE = 0.3


def demosaic(mosaic: Array, gains: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Array:
    """RGGB mosaic H×W → camera RGB H×W×3, by Malvar, He and Cutler's linear filters (ICASSP 2004).

    The filters lend one colour the detail of another. That holds where colours are balanced and
    steps are small, so they run on fourth roots of the mosaic balanced by `gains` (R, G, B).
    """
    roots = np.sqrt(np.sqrt(np.maximum(_balanced(mosaic, gains), 0.0)))
    rgb = _interpolated(roots)
    np.maximum(rgb, 0.0, out=rgb)
    for _ in range(2):
        np.square(rgb, out=rgb)
    rgb /= np.asarray(gains, np.float32)
    return rgb


def camera_to_srgb(rgb: Array, camera: Camera) -> Array:
    """Camera RGB H×W×3 (1.0 = clip level of the short frame) → linear sRGB, written over it.

    Clipped light is white: where green clips it is raised to the mean of white-balanced red and
    blue (else it turns magenta), and where all three clip they fade to grey.
    """
    for rows in _strips(rgb):
        rgb[rows] = _white_balanced_srgb(rgb[rows], camera)
    return rgb


def tone_mapped(rgb: Array, *, exposure: float = 0.0) -> np.ndarray:
    """Linear sRGB H×W×3 of any range → 8-bit sRGB H×W×3.

    Args:
        exposure: stops to add to the exposure that the scene's key gives.
    """
    luminance = np.maximum(rgb @ _LUMINANCE, _DARKEST)
    # Far below the scene's middle, logarithms would blow noise up into texture.
    luminance += _FLOOR * np.exp2(np.median(np.log2(luminance[::4, ::4])))
    stops = np.log2(luminance)
    base = _guided(stops, radius=max(4, min(stops.shape) // 20), edge=_EDGE)
    shift, contrast = _curve(base)
    shift += float(np.log2(1 + _FLOOR)) + exposure  # what the floor took from the middle
    # stops + (contrast - 1) · base = detail + contrast · base
    target = np.exp2(stops + (contrast - 1) * base + shift)
    target = _shoulder(_toe(target))
    saturation = _saturation(contrast)
    display = np.empty(rgb.shape, np.uint8)
    for rows in _strips(rgb):
        gain = target[rows] / luminance[rows]
        display[rows] = _encoded(_into_gamut(rgb[rows] * gain[..., None], saturation))
    return display


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """H×W×… pixels turned and mirrored to how the scene is to be seen.

    Args:
        orientation: EXIF 1..8.

    Raises:
        BracketError: any other orientation.
    """
    if orientation not in _TURNS:
        raise BracketError(f"EXIF orientation {orientation}", expected="1 to 8")
    mirrored, quarters = _TURNS[orientation]
    image = image[:, ::-1] if mirrored else image
    return np.ascontiguousarray(np.rot90(image, quarters))


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


def _balanced(mosaic: Array, gains: tuple[float, float, float]) -> Array:
    red, green, blue = gains
    return mosaic * np.tile(
        np.array([[red, green], [green, blue]], np.float32),
        (mosaic.shape[0] // 2, mosaic.shape[1] // 2),
    )


def _interpolated(mosaic: Array) -> Array:
    """Each site's own colour, and the filters' estimate of the two others."""
    rgb = np.empty((*mosaic.shape, 3), np.float32)
    green = cv2.filter2D(mosaic, -1, _GREEN, borderType=cv2.BORDER_REFLECT_101)
    along = cv2.filter2D(mosaic, -1, _ALONG, borderType=cv2.BORDER_REFLECT_101)
    across = cv2.filter2D(mosaic, -1, _ALONG.T, borderType=cv2.BORDER_REFLECT_101)
    opposite = cv2.filter2D(mosaic, -1, _OPPOSITE, borderType=cv2.BORDER_REFLECT_101)
    # (row, column) within the quad → its red, green and blue.
    sources = {
        (0, 0): (mosaic, green, opposite),
        (0, 1): (along, mosaic, across),
        (1, 0): (across, mosaic, along),
        (1, 1): (opposite, green, mosaic),
    }
    for (row, column), planes in sources.items():
        for channel, plane in enumerate(planes):
            rgb[row::2, column::2, channel] = plane[row::2, column::2]
    return rgb


def _strips(image: np.ndarray) -> Iterator[slice]:
    """Rows to do at a time, so that what is computed on the way stays small."""
    for start in range(0, image.shape[0], _STRIP):
        yield slice(start, start + _STRIP)


def _white_balanced_srgb(rgb: Array, camera: Camera) -> Array:
    clipped = np.clip((rgb - 0.9) / 0.1, 0.0, 1.0)
    balanced = rgb * np.asarray(camera.wb_gains, np.float32)
    missing = np.maximum((balanced[..., 0] + balanced[..., 2]) / 2 - balanced[..., 1], 0.0)
    balanced[..., 1] += clipped[..., 1] * missing
    balanced += clipped.min(axis=-1, keepdims=True) * (balanced[..., 1:2] - balanced)
    return np.maximum(cv2.transform(balanced, np.asarray(camera.ccm, np.float32)), 0.0)


def _curve(base: Array) -> tuple[float, float]:
    """(shift, contrast): display stops of the base are shift + contrast · base."""
    low, middle, high = (float(v) for v in np.percentile(base[::4, ::4], [2, 50, 99.5]))
    middle = (middle + float(base.mean())) / 2
    # Reinhard 2002, equation 4: a dark scene with a few lights gets a lower key than a bright one.
    position = (2 * middle - low - high) / max(high - low, 1e-3)
    key = np.log2(np.clip(_KEY * 4.0**position, _DARKEST_KEY, _BRIGHTEST_KEY))
    contrast = float(np.clip((-_HEADROOM - key) / max(high - middle, 1e-3), _FLATTEST, _STEEPEST))
    return float(key - contrast * middle), contrast


def _toe(luminance: Array) -> Array:
    """Deep shadows fall off faster, as on film: what is there is mostly noise."""
    return luminance * luminance / (luminance + _TOE)


def _saturation(contrast: float) -> float:
    """How much colour a compressed scene keeps: Mantiuk et al., "Color correction for tone mapping"
    (Eurographics 2009), equation 5, of half the compression, since detail keeps its contrast."""
    half = ((1 + contrast) / 2) ** 0.9925
    return 2.6774 * half / (1 + 1.6774 * half)


def _shoulder(luminance: Array) -> Array:
    """Identity up to a half, then bent so that no luminance passes display white."""
    over = np.maximum(luminance - 0.5, 0.0)
    return np.minimum(luminance, 0.5) + over / (1 + 2 * over)


def _into_gamut(rgb: Array, saturation: float) -> Array:
    """Scale the distance to grey by `saturation`, and further where a colour leaves the display."""
    luminance = np.minimum(rgb @ _LUMINANCE, 1.0)[..., None]
    colour = (rgb - luminance) * saturation
    peak = np.maximum(colour.max(axis=-1, keepdims=True), 1e-6)
    return luminance + colour * np.minimum(1.0, (1.0 - luminance) / peak)


def _encoded(rgb: Array) -> np.ndarray:
    return np.round(linear_to_srgb(np.clip(rgb, 0.0, 1.0)) * 255).astype(np.uint8)


def _guided(image: Array, *, radius: int, edge: float) -> Array:
    """The image smoothed where it varies by less than sqrt(edge), its own guide.

    The coefficients are found on a quarter of the resolution (He and Sun, "Fast guided filter").
    """
    height, width = image.shape
    step = 4 if min(height, width) >= 256 else 1
    small = cv2.resize(image, (width // step, height // step), interpolation=cv2.INTER_AREA)
    size = 2 * (radius // step) + 1
    mean = _box(small, size)
    variance = np.maximum(_box(small * small, size) - mean * mean, 0.0)
    slope = variance / (variance + edge)
    offset = mean - slope * mean
    smooth = [_enlarged(_box(plane, size), image.shape) for plane in (slope, offset)]
    return smooth[0] * image + smooth[1]


def _box(plane: np.ndarray, size: int) -> Array:
    return np.asarray(cv2.blur(plane, (size, size)), np.float32)


def _enlarged(plane: Array, shape: tuple[int, ...]) -> Array:
    enlarged = cv2.resize(plane, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)
