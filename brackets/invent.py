"""Scenes made up from a seed, for what captured HDR images are too few to show."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def invented_scene(seed: int, size: int = 512) -> NDArray[np.float32]:
    """Surfaces or leaves, print, texture, deep shadow, a sun or lamps: size×size×3 radiance."""
    rng = np.random.default_rng(seed)
    ground = _leaves if seed % 2 else _surfaces
    scene = ground(rng, size) * (0.4 + 1.2 * _clouds(rng, size, rng.uniform(0.8, 2.0)))
    scene *= 1 + rng.uniform(0.0, 0.6) * _clouds(rng, size, 0.3)
    for _ in range(rng.integers(2, 6)):
        scene = _printed(scene, rng)
    for _ in range(rng.integers(1, 5)):
        scene = _lit(scene, rng, low=0.01, high=0.3, soft=rng.uniform(0.5, 40.0))
    for _ in range(rng.integers(1, 4)):
        scene = _lit(scene, rng, low=3.0, high=60.0, soft=rng.uniform(0.5, 8.0))
    for _ in range(rng.integers(1, 9)):
        scene += _lamp(rng, size)
    if seed % 3 == 0:
        scene = _under_the_sun(scene, rng)
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


def _leaves(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Dead leaves: shapes of power-law sizes over one another, each with its own grain.

    Their edges, occlusions and scale invariance are those of photographs (Lee, Mumford and Huang,
    "Occlusion models for natural images", 2001). Drawn at twice the size, for smooth edges.
    """
    side = 2 * size
    canvas = np.ones((side, side, 4), np.float32)
    base = rng.normal(0, 0.3, 3)
    for _ in range(4000):
        radius = 4 / np.sqrt(1 - rng.uniform(0, 1 - (4 / (0.25 * side)) ** 2))
        colour = np.exp(base + rng.normal(0, 0.9) + rng.normal(0, 0.25, 3))
        ink = (*colour.tolist(), rng.uniform(0, 0.8))
        centre, turn = rng.uniform(0, side, 2), rng.uniform(0, 180)
        axes = (int(radius), max(1, int(radius * rng.uniform(0.2, 1.0))))
        if rng.random() < 0.5:
            cv2.ellipse(canvas, centre.astype(int).tolist(), axes, turn, 0, 360, ink, -1)
        else:
            box = cv2.boxPoints((centre.tolist(), (2.0 * axes[0], 2.0 * axes[1]), turn))
            cv2.fillPoly(canvas, [box.astype(np.int32)], ink)
    scene = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float64)
    grain = _clouds(rng, size, 0.2) - 0.5
    return scene[..., :3] * (1 + scene[..., 3:] * grain)


def _under_the_sun(scene: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A bright sky above a ragged horizon, and the sun in it."""
    size = scene.shape[0]
    rows, columns = np.mgrid[:size, :size]
    ragged = np.cumsum(rng.normal(0, rng.uniform(0.3, 3.0), size))
    horizon = size * rng.uniform(0.15, 0.6) + ragged - ragged.mean()
    sky = np.clip(horizon[None] - rows + 0.5, 0, 1)[..., None]
    blue = np.exp(rng.uniform(1.0, 3.0)) * np.array([0.7, 0.9, 1.3])
    blue = (
        (0.7 + rows / size)[..., None] * blue * (1 + rng.uniform(0, 1.5) * _clouds(rng, size, 1.5))
    )
    y, x = rng.uniform(0, horizon.mean()), rng.uniform(0, size)
    distance = np.hypot(rows - y, columns - x) / rng.uniform(2.0, 8.0)
    disc = np.clip(1.5 - distance, 0, 1) + 0.002 / (1 + (distance / 6) ** 2)
    sun = np.exp(rng.uniform(6.0, 9.5)) * np.array([1.1, 1.0, 0.85])
    return scene * (1 - sky) + sky * (blue + disc[..., None] * sun)


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
