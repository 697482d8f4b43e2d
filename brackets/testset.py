"""The test set that networks are compared on: raw brackets of images that none was trained on.

Nothing of it is stored: the images held out (`sources.HELD_OUT`) are in the cache, the rest is a
seed. The same cache gives the same brackets.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import FLIPS, Bracket
from pockethdr.brackets.noise import phones
from pockethdr.brackets.simulate import simulate
from pockethdr.brackets.simulation import SimulationSettings, log_uniform

# Views of each image: more of the larger ones, which show more.
VIEWS = {
    "openexr_Desk": 4,
    "openexr_Tree": 4,
    "pixel6pro_ultrahdr_Ultra_HDR_Samples_Originals_02": 5,
    "blender_night": 2,
    "blender_sunset": 3,
    "pmndrs_lobby": 2,
    "pmndrs_venice": 1,
    "pmndrs_workshop": 2,
    "scikit_image_coffee": 2,
    "invented_1000": 1,
    "invented_1001": 1,
    "invented_1002": 1,
}
_SEED = 20260
_SIDE, _MARGIN = 512, 32


def test_brackets(images: dict[str, NDArray[np.float16]]) -> Iterator[Bracket]:
    """The brackets of those images that are here: mosaics of up to 512×512, named IMAGE_VIEW.

    Args:
        images: as `sources.scenes(cache, TEST)` gives them.
    """
    for number, (name, views) in enumerate(VIEWS.items()):
        for view in range(views if name in images else 0):
            rng = np.random.default_rng((_SEED, number, view))
            piece = _piece(images[name], rng)
            settings = photographed(rng)
            seed = int(rng.integers(2**31))
            yield simulate(piece, settings, seed=seed, name=f"{name}_{view}")


def photographed(rng: np.random.Generator) -> SimulationSettings:
    """A phone in somebody's hand: half of the scenes move, half of the lenses shade."""
    moving, blurred, shading = rng.random(3) < 0.5
    bits = int(rng.choice([10, 12]))
    return SimulationSettings(
        phone=str(rng.choice(phones())),
        iso=log_uniform(rng, 100, 3200),
        ratio=4.0 if rng.random() < 0.7 else log_uniform(rng, 2.0, 8.0),
        brightness=log_uniform(rng, 0.01, 0.2),
        cfa=str(rng.choice(sorted(FLIPS))),
        bit_depth=bits,
        black_level=64 if bits == 10 else 256,
        shake_px=log_uniform(rng, 1.0, 8.0),
        shake_deg=rng.uniform(0.0, 0.2),
        blur_px=rng.uniform(0.0, 6.0) if blurred else 0.0,
        object_px=log_uniform(rng, 8.0, 60.0) if moving else 0.0,
        object_size=rng.uniform(0.05, 0.2),
        objects=int(rng.integers(1, 4)),
        shading=rng.uniform(0.2, 1.2) if shading else 0.0,
        margin=_MARGIN,
    )


def _piece(image: NDArray[np.float16], rng: np.random.Generator) -> NDArray[np.float32]:
    """A piece of the image, shrunk by up to 2.2 where the image is large enough for that."""
    height, width = (min(_SIDE + 2 * _MARGIN, size) for size in image.shape[:2])
    most = min(image.shape[0] / height, image.shape[1] / width, 2.2)
    scale = rng.uniform(1.0, most)
    tall, wide = int(height * scale), int(width * scale)
    top, left = rng.integers(0, (image.shape[0] - tall + 1, image.shape[1] - wide + 1))
    piece = image[top : top + tall, left : left + wide].astype(np.float32)
    shrunk = cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.float32)
