"""A whole bracket at a glance: the middle exposure, and what the network makes of all three."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pockethdr.brackets.bracket import Bracket
from pockethdr.report.crops import SIDE, Crop, as_seen, pictures
from pockethdr.report.panels import reference_frame
from pockethdr.runtime.runner import Array

#: Pixels of the longer side; a page with ten brackets stays below a megabyte.
LONGEST = 480
_QUALITY = 85
_MARK = (255, 200, 0)


@dataclass(frozen=True)
class Overview:
    """JPEG data URIs, developed alike; in `fused` the places of the crops are outlined."""

    bracket: str
    frame: str
    fused: str


def overview(bracket: Bracket, reference: Array, crops: Sequence[Crop]) -> Overview:
    """Of the C×H×W HDR image that the PyTorch reference makes of `bracket`.

    Args:
        crops: of the artifacts on this bracket.
    """
    height, width = reference.shape[-2:]
    step = min(1.0, LONGEST / max(height, width))
    images = (reference, reference_frame(bracket))
    small = [_shrunk(image, step) for image in images]
    fused, single = pictures(small, bracket, (1.0, 1 / bracket.ratios[1]))
    outlines = np.zeros((*small[0].shape[1:], 1), np.uint8)
    for crop in crops:
        corner = np.array([crop.left, crop.top])
        ends = (np.array([corner, corner + SIDE]) * step).astype(int)
        cv2.rectangle(outlines, ends[0].tolist(), ends[1].tolist(), 255, 1)
    fused[as_seen(outlines, bracket)[..., 0] > 0] = _MARK
    return Overview(bracket.name, _jpeg(single), _jpeg(fused))


def _shrunk(image: Array, step: float) -> Array:
    """C×H×W, a plane at a time."""
    planes = [cv2.resize(p, None, fx=step, fy=step, interpolation=cv2.INTER_AREA) for p in image]
    return np.stack(planes)


def _jpeg(image: np.ndarray) -> str:
    pixels = np.ascontiguousarray(image[..., ::-1])
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
