"""The cache of HDR images that brackets are simulated from, and which of them are never trained on.

A cache is a folder of half-float EXR files and `sources.json`, as `pockethdr gather` writes it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.exr import read_exr
from pockethdr.errors import BracketError
from pockethdr.files import write_bytes

INDEX = "sources.json"
TRAIN, TEST = "train", "test"
# Whole images, not crops of them, and other photographs of the same place with them. The brackets
# `syn_*` beside the repository are made from the first three.
HELD_OUT = (
    "openexr_Desk",
    "openexr_Tree",
    "pixel6pro_ultrahdr_Ultra_HDR_Samples_Originals_02",
    "blender_night",
    "blender_sunset",
    "pmndrs_lobby",
    "pmndrs_venice",
    "pmndrs_workshop",
    "scikit_image_coffee",
    "invented_1000",
    "invented_1001",
    "invented_1002",
)
_LONGEST = 2600


@dataclass(frozen=True)
class Image:
    """One cached image: its file's name, where it is from, its licence, its part, its hash."""

    name: str
    source: str
    licence: str
    part: str
    sha256: str


def split_of(name: str) -> str:
    """`test` for an image held out, else `train`."""
    return TEST if name in HELD_OUT else TRAIN


def write_index(cache: Path, images: list[Image]) -> None:
    """Write `sources.json`, whole or not at all."""
    text = json.dumps([asdict(i) for i in sorted(images, key=lambda i: i.name)], indent=1)
    write_bytes(cache / INDEX, (text + "\n").encode(), overwrite=True)


def read_index(cache: Path) -> list[Image]:
    """The images of a cache, by name.

    Raises:
        BracketError: no cache there, or its index is damaged.
    """
    path = cache / INDEX
    try:
        return [Image(**row) for row in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        said = error.strerror if isinstance(error, OSError) else "damaged"
        raise BracketError(
            f"{path}: cannot be read ({said})",
            expected="a cache of HDR images",
            fix=f"gather it: pockethdr gather --cache {cache}",
        ) from error


def digest(cache: Path, part: str) -> str:
    """One hash of the images of a part: of their names and their files' hashes."""
    lines = sorted(f"{i.name} {i.sha256}" for i in read_index(cache) if i.part == part)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def scenes(cache: Path, part: str) -> dict[str, NDArray[np.float16]]:
    """The images of one part: name → H×W×3, brought to a geometric mean of green of 1.

    Raises:
        BracketError: no cache, an image that is missing or damaged, or none of this part.
    """
    found = {
        i.name: tidied(read_exr(cache / f"{i.name}.exr"))
        for i in read_index(cache)
        if i.part == part
    }
    if not found:
        raise BracketError(f"{cache}: no images to {part} on", fix="gather them: pockethdr gather")
    return found


def tidied(image: NDArray[np.float32]) -> NDArray[np.float16]:
    """Bounded in size, non-negative, with a geometric mean of green of 1."""
    shrink = _LONGEST / max(image.shape[:2])
    if shrink < 1:
        smaller = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        image = np.asarray(smaller, np.float32)
    image = np.maximum(np.nan_to_num(image), 0.0)
    image = image / np.exp(np.log(image[..., 1] + 1e-4 * image.mean()).mean())
    return np.clip(image, 0.0, 3e4).astype(np.float16)
