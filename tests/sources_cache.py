"""A small cache of HDR images, as `pockethdr gather` would fill it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pockethdr.brackets.exr import write_exr
from pockethdr.brackets.invent import invented_scene
from pockethdr.brackets.sources import Image, split_of, write_index
from pockethdr.files import sha256_of

NAMES = ("photo_0", "photo_1", "invented_0", "openexr_Desk", "invented_1000")


def filled(folder: Path, size: int = 160) -> Path:
    """Two images called captured, an invented one, and two that are held out."""
    folder.mkdir(parents=True)
    images = []
    for seed, name in enumerate(NAMES):
        path = folder / f"{name}.exr"
        write_exr(path, invented_scene(seed, size).astype(np.float32))
        images.append(Image(name, "ours", "CC0", split_of(name), sha256_of(path)))
    write_index(folder, images)
    return folder
