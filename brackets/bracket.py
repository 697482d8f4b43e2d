"""A bracket: three exposures of one scene, and the network inputs they make.

Pixels of a raw bracket are held in the RGGB orientation: a mosaic of another pattern is flipped
when it is read (`flips_of`), and outputs are flipped back with the same `flips`. No pixel is lost
and the colour sites keep their true positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pockethdr.errors import BracketError

RAW, RGB = "raw", "rgb"
CHANNELS = {RAW: 8, RGB: 6}
OUTPUT_CHANNELS = {RAW: 4, RGB: 3}
# Linear sRGB → CIE XYZ under D65 (IEC 61966-2-1).
SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip
#: Rec. 709 luminance of linear sRGB.
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
# White balance of real light stays within a factor of ten; beyond this, float32 pixels run over.
_GAINS = (1e-3, 1e3)
# (vertical, horizontal): the flips that bring the R site of each pattern to the top left.
FLIPS = {
    "RGGB": (False, False),
    "GRBG": (False, True),
    "GBRG": (True, False),
    "BGGR": (True, True),
}


@dataclass(frozen=True)
class Camera:
    """What turned radiance into numbers. `cfa` names the pattern of the sensor, before flips.

    Attributes:
        wb_gains: white balance gains of R, G, B.
        ccm: 3×3, white-balanced camera RGB to linear sRGB.
        noise: (S, O) of var = S·x + O on x in [0, 1] (DNG `NoiseProfile`), None when unknown.

    Raises:
        BracketError: an unknown pattern, or a number that no sensor has.
    """

    cfa: str = "RGGB"
    bit_depth: int = 10
    black_level: float = 64.0
    white_level: float = 1023.0
    wb_gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ccm: np.ndarray = field(default_factory=lambda: np.eye(3, dtype=np.float32))
    noise: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        flips_of(self.cfa)
        if not 0 <= self.black_level < self.white_level < 2**self.bit_depth:
            raise BracketError(
                f"black level {self.black_level:g}, white level {self.white_level:g} "
                f"at {self.bit_depth} bits",
                expected="0 ≤ black < white < 2^bits",
            )
        _check_colours(self.wb_gains, self.ccm)
        if self.noise is not None and not all(0 <= part < np.inf for part in self.noise):
            raise BracketError(f"noise profile (S, O) {self.noise}", expected="finite, 0 or more")


class Pixels(Protocol):
    """An array, or what becomes one row by row (`stored.Stored`)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...

    def __array__(self) -> np.ndarray[Any, Any]: ...


@dataclass(frozen=True)
class Frame:
    """One exposure.

    Attributes:
        path: the file it came from; None for a simulated frame.
        pixels: float32 in [0, 1]. raw: H×W mosaic, black subtracted, RGGB; rgb: H×W×3 encoded.
            Without memory for whole frames, read with `read_bracket(..., stream=True)`.
        exposure_s: exposure time in seconds, None when unknown.
    """

    path: Path | None
    pixels: Pixels
    exposure_s: float | None = None


@dataclass(frozen=True)
class Bracket:
    """Three exposures, ordered short, mid (the reference), long.

    Attributes:
        ratios: exposure of each frame over that of the shortest; ratios[0] == 1.0.
        camera: None for rgb brackets.
        orientation: EXIF 1..8; pixels and ground truth are in sensor orientation.
        ground_truth: C×H×W float32 linear, 1.0 = clip level of the short frame, or None.
        flips: (vertical, horizontal) that were applied to the frames and the ground truth.
        padding: rows and columns at the bottom and right of the sensor's own geometry that fill an
            odd raw mosaic up to whole quads; they are no part of the picture.
        response: encoded rgb → linear, both in [0, 1].
        selection: how the three frames were chosen, for the manifest.
        exposure_source: where the ratios come from.
        sha256: of each file read.
        notes: what the reader left out or assumed, a sentence each.
    """

    name: str
    domain: str
    frames: tuple[Frame, Frame, Frame]
    ratios: tuple[float, float, float]
    camera: Camera | None = None
    orientation: int = 1
    ground_truth: np.ndarray | None = None
    flips: tuple[bool, bool] = (False, False)
    padding: tuple[int, int] = (0, 0)
    response: Callable[[np.ndarray], np.ndarray] = field(default_factory=lambda: srgb_to_linear)
    selection: str = "three frames given"
    exposure_source: str = "metadata"
    sha256: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_domain(self.name, self.domain)
        _check_frames(self.name, self.domain, self.frames)
        _check_ratios(self.name, self.ratios)
        truth = self.ground_truth
        wanted = (OUTPUT_CHANNELS[self.domain], *self.size())
        if truth is not None and truth.shape != wanted:
            raise BracketError(
                f"{self.name}: ground truth has shape {truth.shape}", expected=f"{wanted} (C×H×W)"
            )

    def inputs(self, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The network's three frames, 1×C×H×W float32: C = 8 raw, 6 rgb; or some of their rows."""
        start, stop, _ = rows.indices(self.size()[0])
        quad = 2 if self.domain == RAW else 1
        sensor_rows = slice(start * quad, stop * quad)
        short, mid, long = (
            self._input(frame.pixels[sensor_rows], ratio)
            for frame, ratio in zip(self.frames, self.ratios, strict=True)
        )
        return short, mid, long

    def size(self) -> tuple[int, int]:
        """H, W of the network's grid: half the mosaic for raw, the image for rgb."""
        height, width = self.frames[0].pixels.shape[:2]
        return (height // 2, width // 2) if self.domain == RAW else (height, width)

    def _input(self, pixels: np.ndarray, ratio: float) -> np.ndarray:
        if self.domain == RAW:
            planes = pack(pixels)
            linear = planes
        else:
            planes = pixels.transpose(2, 0, 1)
            linear = self.response(pixels).transpose(2, 0, 1)
        stacked = np.concatenate([planes, linear / ratio])
        return np.ascontiguousarray(stacked[None], dtype=np.float32)


def flips_of(cfa: str) -> tuple[bool, bool]:
    """The (vertical, horizontal) flips that turn a mosaic of pattern `cfa` into RGGB."""
    try:
        return FLIPS[cfa.upper()]
    except KeyError:
        raise BracketError(
            f"unknown colour filter pattern {cfa!r}", expected=", ".join(FLIPS)
        ) from None


def flip(image: np.ndarray, flips: tuple[bool, bool]) -> np.ndarray:
    """Flip the last two axes (…×H×W); its own inverse. Mosaics only, never packed planes."""
    vertical, horizontal = flips
    image = image[..., ::-1, :] if vertical else image
    image = image[..., ::-1] if horizontal else image
    return np.ascontiguousarray(image)


def pack(mosaic: np.ndarray) -> np.ndarray:
    """An RGGB mosaic …×H×W as four planes R, G, G, B: …×4×H/2×W/2.

    Raises:
        BracketError: H or W is odd.
    """
    height, width = mosaic.shape[-2:]
    if height % 2 or width % 2:
        raise BracketError(f"a mosaic of {height}×{width}", expected="even height and width")
    sites = [mosaic[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return np.stack(sites, axis=-3)


def unpack(planes: np.ndarray) -> np.ndarray:
    """The inverse of `pack`: …×4×H×W → …×2H×2W."""
    *lead, _, height, width = planes.shape
    mosaic = np.empty((*lead, 2 * height, 2 * width), planes.dtype)
    for index in range(4):
        mosaic[..., index // 2 :: 2, index % 2 :: 2] = planes[..., index, :, :]
    return mosaic


def mosaic_of(image: np.ndarray) -> np.ndarray:
    """Sample an H×W×3 image on the RGGB sites: H×W."""
    mosaic = image[..., 1].copy()
    mosaic[0::2, 0::2] = image[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = image[1::2, 1::2, 2]
    return mosaic


def power(base: np.ndarray, exponent: float) -> np.ndarray:
    """In double precision: a float32 power differs from CPU to CPU, and a phone's differs again."""
    return np.power(base, np.float32(exponent), dtype=np.float64)


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, both in [0, 1]."""
    low = encoded / 12.92
    high = power((np.maximum(encoded, 0.0) + 0.055) / 1.055, 2.4)
    return np.where(encoded <= 0.04045, low, high).astype(np.float32)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """The inverse of `srgb_to_linear`."""
    low = linear * 12.92
    high = 1.055 * np.maximum(linear, 0.0) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, low, high).astype(np.float32)


def _check_colours(gains: tuple[float, float, float], ccm: np.ndarray) -> None:
    least, most = _GAINS
    if not all(least <= gain <= most for gain in gains):
        raise BracketError(
            f"white balance gains {gains}", expected=f"gains of R, G, B from {least:g} to {most:g}"
        )
    matrix = np.asarray(ccm, np.float64)
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < 3:
        raise BracketError(
            f"colour matrix (camera to sRGB) {matrix.tolist()}",
            expected="finite numbers, and rows of which none is made of the others",
        )


def _check_domain(name: str, domain: str) -> None:
    if domain not in CHANNELS:
        raise BracketError(f"{name}: unknown domain {domain!r}", expected=" or ".join(CHANNELS))


def _check_frames(name: str, domain: str, frames: tuple[Frame, ...]) -> None:
    if len(frames) != 3:
        raise BracketError(f"{name}: {len(frames)} frames", expected="short, mid, long")
    shapes = [frame.pixels.shape for frame in frames]
    if len(set(shapes)) > 1:
        raise BracketError(f"{name}: frames of different sizes {shapes}", expected="one size")
    rank_ok = len(shapes[0]) == 2 if domain == RAW else shapes[0][2:] == (3,)
    if not rank_ok:
        wanted = "H×W mosaics" if domain == RAW else "H×W×3 images"
        raise BracketError(f"{name}: {domain} frames of shape {shapes[0]}", expected=wanted)
    if domain == RAW and (shapes[0][0] % 2 or shapes[0][1] % 2):
        raise BracketError(f"{name}: a mosaic of {shapes[0]}", expected="even height and width")


def _check_ratios(name: str, ratios: tuple[float, ...]) -> None:
    rising = len(ratios) == 3 and ratios[0] == 1.0 and 1.0 < ratios[1] < ratios[2] < np.inf
    if not rising:
        raise BracketError(
            f"{name}: exposure ratios {ratios}",
            expected="three rising ratios to the shortest frame, the first 1.0",
            fix="give three different exposures of the scene",
        )
