"""How to photograph an HDR image: the settings of a simulated phone, its hand and its scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pockethdr.brackets.bracket import RAW
from pockethdr.errors import BracketError

# Field: what it is called, the least, the most. Wide: what lies beyond is a slip, or fills memory
# with blur.
_LIMITS = {
    "iso": ("ISO", 1, 1e6),
    "brightness": ("brightness", 1e-6, 10),
    "shake_px": ("shake in pixels", 0, 1000),
    "shake_deg": ("shake in degrees", 0, 90),
    "blur_px": ("blur in pixels", 0, 1000),
    "object_px": ("motion in pixels", 0, 1000),
    "object_size": ("object size", 0.001, 1),
    "objects": ("number of objects", 0, 100),
    "shading": ("shading", 0, 10),
    "short_s": ("exposure time in seconds", 1e-9, 1e6),
    "curve": ("curve exponent", 0.1, 10),
    "contrast": ("contrast", 0, 1),
    "saturation": ("saturation", 0, 4),
    "denoise": ("strength of noise reduction", 0, 1),
    "sharpen": ("strength of sharpening", 0, 4),
    "drift": ("drift of exposure and white balance", 0, 1),
}
_MOST_RATIO = 1000


@dataclass(frozen=True)
class SimulationSettings:
    """How to photograph an HDR image.

    Attributes:
        domain: raw (Bayer mosaics) or rgb (processed, encoded images).
        phone, iso: a noise profile of `brackets.noise`; `noise` (S, O) overrides both.
        ratio: between neighbouring frames, or (mid, long) over the short frame.
        brightness: geometric mean of green in the mid frame, of full scale.
        shake_px, shake_deg: standard deviation of the short and long frames' pose.
        blur_px: length of the camera's path during the long exposure.
        object_px: how far the fastest object moves between two frames; 0 for none.
        object_size: the first one's larger half axis, of the image's smaller side.
        objects: how many move, each its own way; later ones occlude earlier ones.
        shading: how much the lens darkens the sensor's far corners: they get 1 / (1 + shading) of
            the light, and the camera multiplies it back, noise and all.
        shading_view: top, left, height, width of the image within the sensor, as fractions.
        margin: pixels cut from each edge, where shake would show made-up content.
        curve: exponent on the linear signal before sRGB coding; 1.0 is a true sRGB camera.
        contrast: strength in [0, 1) of an S-shaped tone curve of the rgb camera.
        saturation: factor on the distance of linear colours from grey, of frames and truth alike.
        denoise, sharpen: strengths of the rgb camera's noise reduction and sharpening, see `isp`.
        drift: standard deviation of the logarithm of each frame's own red, green and blue gains.
        jpeg_quality: None leaves the 8-bit image uncompressed.

    Raises:
        BracketError: a number that no camera or hand has.
    """

    domain: str = RAW
    phone: str = "pixel"
    iso: float = 400.0
    noise: tuple[float, float] | None = None
    ratio: float | tuple[float, float] = 4.0
    brightness: float = 0.08
    cfa: str = "RGGB"
    bit_depth: int = 10
    black_level: int = 64
    shake_px: float = 3.0
    shake_deg: float = 0.05
    blur_px: float = 0.0
    object_px: float = 0.0
    object_size: float = 0.15
    objects: int = 1
    shading: float = 0.0
    shading_view: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    margin: int = 0
    short_s: float = 1 / 480
    curve: float = 1.0
    contrast: float = 0.0
    saturation: float = 1.0
    denoise: float = 0.0
    sharpen: float = 0.0
    drift: float = 0.0
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        for field, (word, least, most) in _LIMITS.items():
            value = getattr(self, field)
            if not least <= value <= most:
                raise BracketError(
                    f"{word}: {value:g}", expected=f"a number from {least:g} to {most:g}"
                )
        ratios = self.ratio if isinstance(self.ratio, tuple) else (self.ratio,)
        if not all(low < high <= _MOST_RATIO for low, high in pairwise((1.0, *ratios))):
            raise BracketError(
                f"exposure ratio of {self.ratio}",
                expected=f"above 1, at most {_MOST_RATIO:g}; of two the second larger",
            )

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Exposure of each frame over that of the short one."""
        mid, long = self.ratio if isinstance(self.ratio, tuple) else (self.ratio, self.ratio**2)
        return 1.0, float(mid), float(long)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number whose logarithm is uniform, as exposures and speeds are."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
