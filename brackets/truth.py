"""The ground truth of a folder, taken only when it fits the three frames that were chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets import kalantari, layout
from pockethdr.brackets.burst import Burst
from pockethdr.brackets.choose import Choice
from pockethdr.brackets.exr import read_exr
from pockethdr.errors import BracketError


@dataclass(frozen=True)
class Truth:
    """H×W×3 linear in [0, 1], 1.0 = clip level of the short frame; or None and the reason."""

    image: NDArray[np.float32] | None
    file: str | None = None
    note: str | None = None


def read_truth(burst: Burst, choice: Choice, size: tuple[int, int]) -> Truth:
    """The folder's ground truth at the frames' full `size` (H, W), in sensor orientation.

    Raises:
        BracketError: a real ground truth that is broken, holds NaN, or has another size.
    """
    if burst.layout == layout.KALANTARI:
        found = kalantari.read_truth(burst.folder, choice.shots[0].exposure)
        return _checked(burst, size, *found) if found else Truth(None, note="no ground truth")
    name = burst.ground_truth
    if name is None:
        return Truth(None, note="no ground truth")
    if burst.pseudo_truth:
        return Truth(None, note=f"{name} left aside: a pseudo ground truth, made of the frames")
    if choice.shots[0].exposure > min(shot.exposure for shot in burst.shots) * 1.01:
        return Truth(
            None, note=f"{name} left aside: it is scaled to a shorter frame than the chosen one"
        )
    return _checked(burst, size, name, np.clip(read_exr(burst.folder / name), 0, 1))


def _checked(burst: Burst, size: tuple[int, int], name: str, image: NDArray[np.float32]) -> Truth:
    path = burst.folder / name
    if image.shape[:2] != size:
        raise BracketError(
            f"{path}: {image.shape[0]}×{image.shape[1]}, but the frames are {size[0]}×{size[1]}",
            expected="ground truth of the frames' size",
            fix="crop it alike, or remove ground_truth from metadata.json",
        )
    if not np.isfinite(image).all():
        raise BracketError(f"{path}: holds NaN", expected="finite linear values")
    return Truth(image, name)
