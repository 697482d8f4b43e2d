"""Linear light of any range → what a display shows, by a local operator.

Log luminance is split into a smooth base and its detail by a guided filter (He, Sun and Tang, ECCV
2010), the base alone is compressed around the scene's key (Reinhard, "Parameter estimation for
photographic tone reproduction", JGT 2002), the detail is put back as it was.

Everything that looks at the whole picture is found on a thumbnail: the filter's two coefficients
(He and Sun, "Fast guided filter") and the curve. What is left for each pixel is one logarithm, one
multiplication and tables, so pictures of any size are toned strip by strip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from pockethdr.brackets.bracket import LUMINANCE, linear_to_srgb
from pockethdr.runtime.runner import Array

#: The longest side of the thumbnail that a `Tone` is made of.
THUMBNAIL = 512
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
# Squared stops: differences of luminance well below its root are detail, well above it are edges.
_EDGE = 0.3
# Stops of display luminance that the table of `_shown` covers, and its steps a stop.
_LOWEST, _STEPS = -24.0, 2048.0


@dataclass(frozen=True)
class Toned:
    """A strip as it is shown.

    Attributes:
        pixels: H×W×3 8-bit sRGB.
        shown: H×W linear luminance of `pixels`, at most 1.
        light: H×W linear luminance of the scene, 1.0 = display white at the scene's middle.
    """

    pixels: np.ndarray
    shown: Array
    light: Array


@dataclass(frozen=True)
class Tone:
    """A picture's curve: steps of `_shown` = slope · log(luminance + floor) + offset.

    Attributes:
        size: H, W of the full picture.
        slope, offset: on the grid of the thumbnail; slope is of the natural logarithm.
        floor: added to luminance, so that noise in the dark is not taken for texture.
        saturation: how much colour is kept.
        gain: of the whole picture without its local part: linear light × gain, 1.0 = white.
    """

    size: tuple[int, int]
    slope: Array
    offset: Array
    floor: float
    saturation: float
    gain: float

    def apply(self, rgb: Array, first: int = 0) -> Toned:
        """Tone linear sRGB 3×H×W, rows `first` and on of the picture."""
        luminance = _luminance_of(rgb)
        raised = luminance + np.float32(self.floor)
        code = np.asarray(cv2.log(raised), np.float32)
        code *= self._enlarged(self.slope, first, len(code))
        code += self._enlarged(self.offset, first, len(code))
        gain = np.asarray(cv2.LUT(_codes(code), _shown()), np.float32) / raised
        target = luminance * gain
        shown = np.minimum(target, np.float32(1))
        pixels = _coloured(rgb, gain, target, shown, self.saturation)
        return Toned(pixels, shown, luminance * np.float32(self.gain))

    def _enlarged(self, plane: Array, first: int, count: int) -> Array:
        """Rows `first` .. of the plane at full size, as `cv2.resize` would interpolate them."""
        height, width = self.size
        place = (np.arange(first, first + count) + 0.5) * (len(plane) / height) - 0.5
        above = np.clip(np.floor(place).astype(int), 0, len(plane) - 1)
        below = np.minimum(above + 1, len(plane) - 1)
        share = np.clip(place - above, 0, 1).astype(np.float32)[:, None]
        narrow = plane[above] * (1 - share) + plane[below] * share
        enlarged = cv2.resize(narrow, (width, count), interpolation=cv2.INTER_LINEAR)
        return np.asarray(enlarged, np.float32)


def tone_of(thumbnail: Array, size: tuple[int, int], *, exposure: float = 0.0) -> Tone:
    """The tone of a picture of `size` (H, W), from linear sRGB 3×h×w of all of it.

    Args:
        exposure: stops to add to the exposure that the scene's key gives.
    """
    luminance = np.maximum(_luminance_of(thumbnail), _DARKEST)
    # Far below the scene's middle, logarithms would blow noise up into texture.
    floor = float(_FLOOR * np.exp2(np.median(np.log2(luminance))))
    stops = np.log2(luminance + np.float32(floor))
    slope, offset = _guide(stops, radius=max(4, min(stops.shape) // 20))
    base = slope * stops + offset
    middle, shift, contrast = _curve(base)
    shift += float(np.log2(1 + _FLOOR)) + exposure  # what the floor took from the middle
    # stops + (contrast - 1) · base + shift = detail + contrast · base + shift
    slope = 1 + (contrast - 1) * slope
    offset = (contrast - 1) * offset + shift - _LOWEST
    gain = float(np.exp2(shift + (contrast - 1) * middle))
    return Tone(
        size,
        slope * np.float32(_STEPS * np.log2(np.e)),
        offset * _STEPS,
        floor,
        _saturation(contrast),
        gain,
    )


def _luminance_of(rgb: Array) -> Array:
    luminance = rgb[0] * LUMINANCE[0]
    for plane, weight in zip(rgb[1:], LUMINANCE[1:], strict=True):
        luminance += plane * weight
    return luminance


def _codes(values: Array) -> np.ndarray:
    return np.clip(values, 0, 65535, out=values).astype(np.uint16)


def _coloured(
    rgb: Array, gain: Array, target: Array, shown: Array, saturation: float
) -> np.ndarray:
    """Each colour's distance to grey, scaled by `saturation` and into the display's gamut."""
    gain, grey = gain * np.float32(saturation), target * np.float32(saturation)
    colours = [plane * gain - grey for plane in rgb]
    peak = np.maximum(np.maximum(colours[0], colours[1]), np.maximum(colours[2], 1e-6))
    inside = np.minimum((1 - shown) / peak, 1)
    for colour in colours:
        colour *= inside
        colour += shown
        colour *= 65535
    return np.asarray(cv2.merge([cv2.LUT(_codes(colour), _encoded()) for colour in colours]))


@cache
def _shown() -> Array:
    """Steps of log2 display luminance → that luminance, with a film's toe and shoulder."""
    luminance = np.exp2(np.arange(65536, dtype=np.float64) / _STEPS + _LOWEST)
    # Deep shadows fall off faster, as on film: what is there is mostly noise.
    luminance *= luminance / (luminance + _TOE)
    # Identity up to a half, then bent so that no luminance passes display white.
    over = np.maximum(luminance - 0.5, 0.0)
    return (np.minimum(luminance, 0.5) + over / (1 + 2 * over)).astype(np.float32)


@cache
def _encoded() -> np.ndarray:
    """Linear light in 65536 steps → 8-bit sRGB."""
    return np.round(linear_to_srgb(np.arange(65536) / 65535) * 255).astype(np.uint8)


def _curve(base: Array) -> tuple[float, float, float]:
    """(middle, shift, contrast): display stops of the base are shift + contrast · base."""
    low, middle, high = (float(v) for v in np.percentile(base, [2, 50, 99.5]))
    middle = (middle + float(base.mean())) / 2
    # Reinhard 2002, equation 4: a dark scene with a few lights gets a lower key than a bright one.
    position = (2 * middle - low - high) / max(high - low, 1e-3)
    key = np.log2(np.clip(_KEY * 4.0**position, _DARKEST_KEY, _BRIGHTEST_KEY))
    contrast = float(np.clip((-_HEADROOM - key) / max(high - middle, 1e-3), _FLATTEST, _STEEPEST))
    return middle, float(key - contrast * middle), contrast


def _saturation(contrast: float) -> float:
    """How much colour a compressed scene keeps: Mantiuk et al., "Color correction for tone mapping"
    (Eurographics 2009), equation 5, of half the compression, since detail keeps its contrast."""
    half = ((1 + contrast) / 2) ** 0.9925
    return 2.6774 * half / (1 + 1.6774 * half)


def _guide(image: Array, *, radius: int) -> tuple[Array, Array]:
    """(slope, offset) of the image smoothed where it varies by little, its own guide."""
    size = (2 * radius + 1, 2 * radius + 1)
    mean = cv2.blur(image, size)
    variance = np.maximum(cv2.blur(image * image, size) - mean * mean, 0.0)
    slope = variance / (variance + _EDGE)
    offset = mean - slope * mean
    return np.asarray(cv2.blur(slope, size)), np.asarray(cv2.blur(offset, size))
