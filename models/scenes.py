"""Radiance to learn from: captured HDR images, and scenes made up here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.exr import read_exr
from pockethdr.errors import BracketError

# The shared test brackets are made from these; no network may have seen them.
HELD_OUT = ("Desk.exr", "Tree.exr", "Ultra_HDR_Samples_Originals_02.jpg")
_LONGEST = 1600


def captured_scenes(folder: Path) -> dict[str, NDArray[np.float16]]:
    """The HDR images under `folder`/hdrgt_*, but those held out: file name → H×W×3.

    Raises:
        BracketError: there is none.
    """
    files = sorted(f for kind in ("exr", "jpg") for f in folder.glob(f"hdrgt_*/*.{kind}"))
    scenes = {f.name: _tidied(_read(f)) for f in files if f.name not in HELD_OUT}
    if not scenes:
        raise BracketError(
            f"{folder}: no HDR images to train on", expected="hdrgt_*/*.exr or Ultra HDR *.jpg"
        )
    return scenes


def invented_scenes(seeds: Iterable[int], size: int = 512) -> dict[str, NDArray[np.float16]]:
    """Procedural scenes, size×size×3: surfaces, fine texture, deep shadow, windows and lamps."""
    return {f"invented_{seed}": _tidied(_invented(seed, size)) for seed in seeds}


def _read(path: Path) -> NDArray[np.float32]:
    if path.suffix == ".exr":
        return read_exr(path)
    import imagecodecs

    image = np.asarray(imagecodecs.ultrahdr_decode(path.read_bytes()))
    return image[..., :3].astype(np.float32)


def _tidied(image: NDArray[np.float32]) -> NDArray[np.float16]:
    """Bounded in size, non-negative, with a geometric mean of green of 1."""
    shrink = _LONGEST / max(image.shape[:2])
    if shrink < 1:
        smaller = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        image = np.asarray(smaller, np.float32)
    image = np.maximum(np.nan_to_num(image), 0.0)
    image = image / np.exp(np.log(image[..., 1] + 1e-4 * image.mean()).mean())
    return np.clip(image, 0.0, 3e4).astype(np.float16)


def _invented(seed: int, size: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    scene = _surfaces(rng, size) * (0.4 + 1.2 * _clouds(rng, size, rng.uniform(0.8, 2.0)))
    scene *= 1 + rng.uniform(0.0, 0.6) * _clouds(rng, size, 0.3)
    for _ in range(rng.integers(2, 6)):
        scene = _printed(scene, rng)
    for _ in range(rng.integers(1, 5)):
        scene = _lit(scene, rng, low=0.01, high=0.3, soft=rng.uniform(0.5, 40.0))
    for _ in range(rng.integers(1, 4)):
        scene = _lit(scene, rng, low=3.0, high=60.0, soft=rng.uniform(0.5, 8.0))
    for _ in range(rng.integers(1, 9)):
        scene += _lamp(rng, size)
    return scene.astype(np.float32)


def _surfaces(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Flat cells around random points, each of its own colour."""
    count = int(rng.integers(8, 60))
    points = rng.uniform(0, size, (count, 2))
    rows, columns = np.mgrid[:size, :size]
    stretch = rng.uniform(0.3, 3.0)
    nearest = np.argmin([(rows - y) ** 2 + stretch * (columns - x) ** 2 for y, x in points], axis=0)
    colours = np.exp(rng.normal(0, 0.8, (count, 1)) + rng.normal(0, 0.3, (count, 3)))
    return colours[nearest]


def _clouds(rng: np.random.Generator, size: int, slope: float) -> NDArray[np.float64]:
    """Noise over octaves in [0, 1], size×size×1; a small slope is fine texture."""
    total = np.zeros((size, size))
    cells = 4
    while cells <= size:
        octave = cv2.resize(
            rng.uniform(size=(cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC
        )
        total += octave * (4 / cells) ** slope
        cells *= 2
    total -= total.min()
    return (total / total.max())[..., None]


def _printed(scene: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A patch of stripes, checks or dots, as print and fabric have."""
    size = scene.shape[0]
    mask = _shape(rng, size, soft=0.7)
    rows, columns = np.mgrid[:size, :size]
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(2.5), np.log(40)))
    along = (np.cos(angle) * columns + np.sin(angle) * rows) * 2 * np.pi / period
    across = (np.cos(angle) * rows - np.sin(angle) * columns) * 2 * np.pi / period
    wave = (np.sin(along), np.sin(along) * np.sin(across), np.sin(along) + np.sin(across))
    ink = 1 / (1 + np.exp(-6 * wave[rng.integers(3)]))
    gains = np.exp(rng.normal(0, 1.0, 3))
    return scene * (1 + (mask * ink)[..., None] * (gains - 1))


def _lit(
    scene: NDArray[np.float64], rng: np.random.Generator, *, low: float, high: float, soft: float
) -> NDArray[np.float64]:
    """Shadow (gain below one) or sunlight (above) on a random shape."""
    gain = np.exp(rng.uniform(np.log(low), np.log(high)))
    return scene * (1 + _shape(rng, scene.shape[0], soft)[..., None] * (gain - 1))


def _shape(rng: np.random.Generator, size: int, soft: float) -> NDArray[np.float64]:
    """The mask of a random polygon, its edge blurred by `soft` pixels."""
    mask = np.zeros((size, size), np.float32)
    centre, radius = rng.uniform(0, size, 2), rng.uniform(0.08, 0.45) * size
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
    reach = radius * rng.uniform(0.5, 1.3, len(angles))
    corners = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
    cv2.fillPoly(mask, [corners.astype(np.int32)], 1.0)
    return cv2.GaussianBlur(mask, (0, 0), soft).astype(np.float64)


def _lamp(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A disc with a halo, tens to thousands of times brighter than the scene."""
    rows, columns = np.mgrid[:size, :size]
    y, x = rng.uniform(0, size, 2)
    radius = np.exp(rng.uniform(np.log(1.5), np.log(25)))
    distance = np.hypot(rows - y, columns - x) / radius
    disc = np.clip((1 - distance) * radius / 1.5 + 0.5, 0, 1)
    halo = rng.uniform(0, 0.02) / (1 + distance**2)
    colour = np.exp(rng.normal(0, 0.3, 3) + np.array([0.3, 0.0, -0.3]))
    return (disc + halo)[..., None] * colour * np.exp(rng.uniform(np.log(20), np.log(3000)))
