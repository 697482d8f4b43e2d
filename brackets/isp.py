"""What a phone's image signal processor makes of a mosaic: a photograph, coded and retouched.

Demosaic, white balance and colour matrix; a tone curve that is not quite sRGB's; then what people
call the look: noise reduction, which smooths colour more than light and takes it out of the dark,
sharpening, and JPEG.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import LUMINANCE, Camera, linear_to_srgb
from pockethdr.brackets.simulation import SimulationSettings

# Encoded light below which the strongest noise reduction leaves no colour.
_COLOURLESS = 0.12


def processed(
    raw: NDArray[np.float32],
    settings: SimulationSettings,
    camera: Camera,
    gains: NDArray[np.float32],
) -> NDArray[np.float32]:
    """A photograph, H×W×3 encoded in steps of 1/255, of an H×W mosaic in [0, 1].

    Args:
        gains: this frame's own of linear red, green and blue, since exposure and white balance are
            never quite the same twice.
    """
    codes = np.rint(raw * 65535).astype(np.uint16)
    rgb = np.asarray(cv2.cvtColor(codes, cv2.COLOR_BayerRGGB2RGB), np.float32)
    linear = balanced(rgb / np.float32(65535), camera, settings.saturation)
    linear = np.minimum(linear * gains, 1.0)
    encoded = linear_to_srgb(linear**settings.curve)
    encoded += settings.contrast * (encoded**2 * (3 - 2 * encoded) - encoded)
    if settings.denoise or settings.sharpen:
        encoded = _retouched(encoded, settings.denoise, settings.sharpen)
    coded = np.rint(encoded * 255).astype(np.uint8)
    if settings.jpeg_quality is not None:
        coded = _through_jpeg(coded, settings.jpeg_quality)
    return coded.astype(np.float32) / 255


def balanced(
    camera_rgb: NDArray[np.float32], camera: Camera, saturation: float = 1.0
) -> NDArray[np.float32]:
    """Camera RGB to linear sRGB in [0, 1], clipped after the gains as a phone does."""
    gained = np.minimum(camera_rgb * np.asarray(camera.wb_gains, np.float32), 1.0)
    matrix = camera.ccm
    if saturation != 1.0:
        grey = np.broadcast_to(LUMINANCE, (3, 3))
        matrix = ((1 - saturation) * grey + saturation * np.eye(3, dtype=np.float32)) @ matrix
    return np.clip(gained @ matrix.T, 0.0, 1.0)


def _retouched(encoded: NDArray[np.float32], denoise: float, sharpen: float) -> NDArray[np.float32]:
    """Noise reduction and sharpening of encoded H×W×3, by strength."""
    light, *colour = cv2.split(cv2.cvtColor(encoded, cv2.COLOR_RGB2YCrCb))
    if denoise:
        light = cv2.bilateralFilter(light, 5, 0.12 * denoise, 1.5)
        kept = np.clip(light / (_COLOURLESS * denoise), 0.0, 1.0)
        smooth = (cv2.GaussianBlur(c - 0.5, (0, 0), 0.5 + 2.5 * denoise) for c in colour)
        colour = [c * kept + 0.5 for c in smooth]
    if sharpen:
        light = light + sharpen * (light - cv2.GaussianBlur(light, (0, 0), 1.0))
    image = cv2.cvtColor(cv2.merge([light, *colour]), cv2.COLOR_YCrCb2RGB)
    return np.asarray(np.clip(image, 0.0, 1.0), np.float32)


def _through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
