"""One picture of the same crops by several methods, beside the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import Bracket, linear_to_srgb, unpack
from pockethdr.runtime.demosaic import camera_to_srgb, demosaic

# Bracket and top left corner in packed pixels: things that move before a window and in leaves, a
# hand-held shot into the light, something dark that passes by at dusk.
PLACES = (
    ("openexr_Desk_1", 20, 40),
    ("openexr_Tree_1", 60, 60),
    ("pixel6pro_ultrahdr_Ultra_HDR_Samples_Originals_02_1", 100, 100),
    ("blender_sunset_2", 60, 30),
)
SIDE, ENLARGED, CAPTION = 96, 2, 24

Fuse = Callable[[Bracket], NDArray[np.float32]]


def picture(tests: Sequence[Bracket], methods: Mapping[str, Fuse], path: Path) -> None:
    """A row per place, a column per method, the ground truth last; all of a row toned alike."""
    by_name = {bracket.name: bracket for bracket in tests}
    rows = [
        _row(by_name[name], methods, top, left) for name, top, left in PLACES if name in by_name
    ]
    captions = np.hstack([_caption(name) for name in (*methods, "ground truth")])
    cv2.imwrite(str(path), np.vstack([captions, *rows])[..., ::-1])


def _row(bracket: Bracket, methods: Mapping[str, Fuse], top: int, left: int) -> NDArray[np.uint8]:
    truth = bracket.ground_truth
    assert truth is not None
    images = [fuse(bracket)[:, : truth.shape[1], : truth.shape[2]] for fuse in methods.values()]
    key = float(np.exp(np.log(truth[1] + 1e-5).mean()))
    return np.hstack([_shown(image, bracket, key, top, left) for image in (*images, truth)])


def _shown(
    image: NDArray[np.float32], bracket: Bracket, key: float, top: int, left: int
) -> NDArray[np.uint8]:
    """Developed, and toned by L/(1 + L) with the truth's geometric mean at 18 %."""
    camera = bracket.camera
    assert camera is not None
    rgb = camera_to_srgb(demosaic(unpack(np.clip(image, 0, 1)), camera.wb_gains), camera)
    light = rgb.transpose(1, 2, 0) * np.float32(0.18 / key)
    piece = light[2 * top : 2 * top + 2 * SIDE, 2 * left : 2 * left + 2 * SIDE]
    toned = np.rint(255 * linear_to_srgb(piece / (1 + piece))).astype(np.uint8)
    size = (ENLARGED * SIDE, ENLARGED * SIDE)
    return np.asarray(cv2.resize(toned, size, interpolation=cv2.INTER_AREA), np.uint8)


def _caption(text: str) -> NDArray[np.uint8]:
    strip = np.full((CAPTION, ENLARGED * SIDE, 3), 255, np.uint8)
    cv2.putText(strip, text, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
