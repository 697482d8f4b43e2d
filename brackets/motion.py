"""What three hand-held exposures see of one scene: shake, rotation, blur, things that move.

The mid frame stands still; the short and the long frame have a pose of their own. Blur grows with
exposure. Several objects move, each its own way; the later one occludes the earlier ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Motion:
    """How the camera and the world move, in pixels of the image.

    Attributes:
        shake_px, shake_deg: standard deviation of the short and long frames' pose.
        blur_px: length of the camera's path during the long exposure.
        object_px: how far the fastest object moves between two frames; 0 for no objects.
        object_size: the first object's larger half axis, of the image's smaller side.
        objects: how many; each has its own texture, path, speed and size.
    """

    shake_px: float
    shake_deg: float
    blur_px: float
    object_px: float
    object_size: float
    objects: int = 1


def views(
    scene: Image,
    motion: Motion,
    ratios: tuple[float, float, float],
    rng: np.random.Generator,
) -> list[Image]:
    """What the ground truth, the short, the mid and the long frame see of H×W×3 radiance."""
    poses = [rng.normal(0.0, [motion.shake_px] * 2 + [motion.shake_deg]) for _ in range(2)]
    poses = [poses[0], np.zeros(3), poses[1]]
    heading = rng.uniform(0.0, 2 * math.pi)
    things = _things(scene, motion, rng)
    seen = [_with(things, scene, 0.0, 0.0)]
    for step, (pose, ratio) in enumerate(zip(poses, ratios, strict=True), start=-1):
        opened = ratio / ratios[2]
        view = _warped(_with(things, scene, step, opened), pose)
        seen.append(_blurred(view, motion.blur_px * opened, heading))
    return seen


@dataclass(frozen=True)
class _Thing:
    """A patch of texture that moves `path` = (x, y) pixels from one frame to the next.

    `layer` is h×w×4: colour times alpha, then alpha; `corner` its row and column in the scene.
    """

    layer: Image
    corner: tuple[int, int]
    path: tuple[float, float]

    def over(self, scene: Image, step: float, opened: float) -> Image:
        """The scene with the thing `step` frames from the reference, blurred over its way."""
        length = opened * math.hypot(*self.path)
        moves = self.path[1] * step, self.path[0] * step
        reach = math.ceil(length / 2) + 1
        rows, columns = (
            _overlap(begin + move, size, reach, limit)
            for begin, move, size, limit in zip(
                self.corner, moves, self.layer.shape, scene.shape, strict=False
            )
        )
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return scene
        down = moves[0] + self.corner[0] - rows.start
        right = moves[1] + self.corner[1] - columns.start
        layer = cv2.warpAffine(
            self.layer,
            np.array([[1, 0, right], [0, 1, down]]),
            (columns.stop - columns.start, rows.stop - rows.start),
        )
        layer = _blurred(np.asarray(layer, np.float32), length, math.atan2(*self.path[::-1]))
        # Rounding takes a blurred alpha a hair past one: light must not turn negative.
        behind = np.maximum(1 - layer[..., 3], 0.0)
        seen = scene.copy()
        view = cv2.multiply(seen[rows, columns], cv2.merge([behind] * 3))
        seen[rows, columns] = cv2.add(view, cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR))
        return seen


def _overlap(begin: float, size: int, reach: int, limit: int) -> slice:
    """What `size` pixels from `begin` on, and `reach` more on both sides, cover of `limit`."""
    first, end = math.floor(begin) - reach, math.ceil(begin) + size + reach
    return slice(max(0, first), min(limit, end))


def _with(things: list[_Thing], scene: Image, step: float, opened: float) -> Image:
    for thing in things:
        scene = thing.over(scene, step, opened)
    return scene


def _things(scene: Image, motion: Motion, rng: np.random.Generator) -> list[_Thing]:
    if motion.object_px <= 0 or motion.objects < 1:
        return []
    things = [_thing(scene, motion.object_px, motion.object_size, rng)]
    for _ in range(motion.objects - 1):
        speed = motion.object_px * rng.uniform(0.2, 1.0)
        things.append(_thing(scene, speed, motion.object_size * rng.uniform(0.3, 1.2), rng))
    return things


def _thing(scene: Image, speed: float, size: float, rng: np.random.Generator) -> _Thing:
    """An ellipse of the scene turned upside down and shifted, darker or brighter."""
    height, width = scene.shape[:2]
    centre = rng.uniform(0.3, 0.7, 2) * (height, width)
    axes = size * min(height, width) * np.array([1.0, rng.uniform(0.4, 1.0)])
    rows, columns = (
        np.arange(max(0, math.floor(middle - axis)), min(limit, math.ceil(middle + axis) + 1))
        for middle, axis, limit in zip(centre, axes, (height, width), strict=True)
    )
    distance = np.hypot(((rows - centre[0]) / axes[0])[:, None], (columns - centre[1]) / axes[1])
    alpha = np.clip((1.0 - distance) * float(axes.min()) / 1.5, 0.0, 1.0).astype(np.float32)
    shift = rng.integers(0, (height, width))
    texture = scene[np.ix_((shift[0] - 1 - rows) % height, (shift[1] - 1 - columns) % width)]
    gain = math.exp(rng.uniform(math.log(0.2), math.log(2.0)))
    angle = rng.uniform(0.0, 2 * math.pi)
    path = (speed * math.cos(angle), speed * math.sin(angle))
    colours = (channel * np.float32(gain) * alpha for channel in cv2.split(texture))
    layer = np.asarray(cv2.merge([*colours, alpha]), np.float32)
    return _Thing(layer, (int(rows[0]), int(columns[0])), path)


def _warped(image: Image, pose: NDArray[np.floating]) -> Image:
    """Shift by pose[:2] = (x, y) pixels and turn by pose[2] degrees about the centre."""
    if not np.any(pose):
        return image
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(pose[2]), 1.0)
    matrix = np.array(turn, np.float64)
    matrix[:, 2] += pose[:2]
    warped = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.float32)


def _blurred(image: Image, length: float, angle: float) -> Image:
    """Average along a line of `length` pixels."""
    if length < 1.0:
        return image
    half = math.ceil(length / 2)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    steps = np.linspace(-length / 2, length / 2, 4 * half + 1)
    columns = np.rint(half + steps * math.cos(angle)).astype(int)
    rows = np.rint(half + steps * math.sin(angle)).astype(int)
    np.add.at(kernel, (rows, columns), 1.0 / len(steps))
    # Large kernels go through a Fourier transform, which leaves tiny negative radiances.
    blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.maximum(np.asarray(blurred, np.float32), 0.0)
