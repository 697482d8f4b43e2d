"""Camera responses: from encoded pixel values back to linear light.

A response maps encoded rgb in [0, 1] (…×3) to linear in [0, 1], both 1.0 at the clip level. Plain
sRGB is not a phone's curve: on a Galaxy Note 9 its inverse gives exposure ratios of 1.9 to 2.9
where the shutter says 2.0, so a curve can be fitted to a burst of one static scene.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import power, srgb_to_linear
from pockethdr.errors import BracketError

Response = Callable[[np.ndarray], np.ndarray]
_FIT_SAMPLES = 200
_FIT_SMOOTHNESS = 60.0


def gamma22(encoded: np.ndarray) -> np.ndarray:
    """The plain power 2.2 of Kalantari's data."""
    return power(np.clip(encoded, 0, 1), 2.2).astype(np.float32)


def linear(encoded: np.ndarray) -> np.ndarray:
    """No curve: the file already holds linear light."""
    return encoded


FIXED: dict[str, Response] = {"srgb": srgb_to_linear, "gamma22": gamma22, "linear": linear}


@dataclass(frozen=True)
class FittedResponse:
    """A measured curve per channel: 256 codes × 3, rising from about 0 to exactly 1."""

    curves: NDArray[np.float32]

    def __call__(self, encoded: np.ndarray) -> np.ndarray:
        codes = np.linspace(0, 1, len(self.curves), dtype=np.float32)
        out = np.empty(encoded.shape, np.float32)
        for channel in range(3):
            out[..., channel] = np.interp(encoded[..., channel], codes, self.curves[:, channel])
        return out


def fit_debevec(
    frames: Sequence[NDArray[np.uint8]], exposures: Sequence[float], *, where: str = "burst"
) -> FittedResponse:
    """Debevec and Malik 1997, section 2.1, on all frames of a burst that shows a static scene.

    Each channel is normalised to 1.0 at code 255 and made monotonic.

    Args:
        frames: aligned H×W×3 RGB, 8 bits; large ones may be subsampled alike beforehand.
        exposures: relative, one for each frame.
        where: the folder, for the error.

    Raises:
        BracketError: the curve does not rise, as with frames of different scenes.
    """
    order = np.argsort(exposures)
    solver = cv2.createCalibrateDebevec(_FIT_SAMPLES, _FIT_SMOOTHNESS, False)
    times = np.asarray(exposures, np.float32)[order]
    curves = np.asarray(solver.process([frames[i] for i in order], times)).reshape(256, 3)
    if not (np.isfinite(curves).all() and (curves[250] > 2 * curves[64]).all()):
        raise BracketError(
            f"{where}: the fitted camera response does not rise with the pixel value",
            expected="at least three different exposures of one static, aligned scene",
            fix="use --response srgb, or another burst",
        )
    rising = np.maximum.accumulate(curves, axis=0)
    return FittedResponse((rising / rising[-1]).astype(np.float32))
