"""Pictures of where an artifact differs most from its reference."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pockethdr.brackets.bracket import RAW, Bracket, Camera, linear_to_srgb
from pockethdr.brackets.metrics import mu_law
from pockethdr.runtime.demosaic import camera_to_srgb
from pockethdr.runtime.image import turned
from pockethdr.runtime.runner import Array

#: Side of a crop, and of the window whose mean error decides where it lies, in grid pixels.
SIDE, WINDOW = 96, 16
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Crop:
    """PNG data URIs of one place; `gain` is what the µ-law difference was multiplied by."""

    bracket: str
    target: str
    precision: str
    top: int
    left: int
    reference: str
    artifact: str
    difference: str
    gain: int


def worst_crop(
    artifact: Array, reference: Array, bracket: Bracket, target: str, precision: str
) -> Crop:
    """The place of largest mean µ-law error of C×H×W `artifact` against `reference`."""
    error = _error(artifact, reference)
    top, left = _worst(error)
    window = (..., slice(top, top + SIDE), slice(left, left + SIDE))
    theirs, ours = pictures([reference[window], artifact[window]], bracket)
    difference, gain = _amplified(error[window])
    return Crop(
        bracket.name,
        target,
        precision,
        top,
        left,
        png(theirs),
        png(ours),
        png(as_seen(difference[..., None], bracket)[..., 0]),
        gain,
    )


def place_of_largest_error(image: Array, truth: Array) -> tuple[int, int]:
    """Top left of the crop around the largest mean µ-law error of C×H×W `image`."""
    return _worst(_error(image, truth))


def pictures(
    images: Sequence[Array], bracket: Bracket, clips: Sequence[float] | None = None
) -> list[np.ndarray]:
    """C×H×W of the network's grid as 8-bit H×W×3, as the scene is seen, and toned alike.

    Reinhard's global curve around the key of the first image.

    Args:
        clips: the value at which each image clips, and is white; None for 1.0.
    """
    levels = [np.float32(clip) for clip in clips or (1.0,) * len(images)]
    linear = [_srgb(i / clip, bracket) * clip for i, clip in zip(images, levels, strict=True)]
    key = float(np.exp(np.log(np.maximum(linear[0], 1e-6)).mean()))
    return [as_seen(_toned(image / key), bracket) for image in linear]


def as_seen(image: np.ndarray, bracket: Bracket) -> np.ndarray:
    """H×W×C of the network's grid, unflipped and turned upright."""
    planes = turned(image.transpose(2, 0, 1), bracket.flips, bracket.orientation)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def png(image: np.ndarray) -> str:
    """An 8-bit H×W or H×W×3 image as a data URI."""
    pixels = image[..., ::-1] if image.ndim == 3 else image
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels))
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()


def _error(artifact: Array, reference: Array) -> np.ndarray:
    """Largest µ-law difference over the channels, H×W; a channel at a time to stay small."""
    error = np.zeros(artifact.shape[-2:], np.float32)
    for ours, theirs in zip(artifact, reference, strict=True):
        difference = mu_law(np.clip(ours, 0, 1)) - mu_law(np.clip(theirs, 0, 1))
        np.maximum(error, np.abs(difference), out=error, casting="same_kind")
    return error


def _worst(error: np.ndarray) -> tuple[int, int]:
    """Top left of the crop around the worst window, inside the image."""
    mean = cv2.boxFilter(error, -1, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT)
    centre = np.unravel_index(int(mean.argmax()), mean.shape)
    top, left = (
        int(np.clip(middle - SIDE // 2, 0, max(0, length - SIDE)))
        for middle, length in zip(centre, error.shape, strict=True)
    )
    return top, left


def _amplified(error: np.ndarray) -> tuple[np.ndarray, int]:
    """Grey H×W uint8 of the error times the largest 1, 2, 5, 10… that does not clip it."""
    largest = float(error.max())
    gains = [step * 10**power for power in range(7) for step in _STEPS]
    gain = max([g for g in gains if g * largest <= 1.0], default=1) if largest else 1
    return np.round(np.clip(error * gain, 0, 1) * 255).astype(np.uint8), gain


def _toned(relative: np.ndarray) -> np.ndarray:
    exposed = 0.18 * relative
    return np.round(linear_to_srgb(exposed / (1 + exposed)) * 255).astype(np.uint8)


def _srgb(planes: Array, bracket: Bracket) -> np.ndarray:
    """C×H×W of the network's grid as linear sRGB H×W×3; the greens of a quad are averaged."""
    planes = np.clip(planes, 0.0, 1.0).astype(np.float32)
    if bracket.domain != RAW:
        return planes.transpose(1, 2, 0)
    red, green, other, blue = planes
    rgb = camera_to_srgb(np.stack([red, (green + other) / 2, blue]), bracket.camera or Camera())
    return rgb.transpose(1, 2, 0)
