"""Kalantari-style folders: three images, `exposure.txt` with their EVs, `HDRImg.hdr`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.choose import Shot
from pockethdr.brackets.formats import file_bytes, is_photograph, read_header
from pockethdr.brackets.layout import EXPOSURES
from pockethdr.errors import BracketError

TRUTHS = ("HDRImg.hdr", "label.hdr")
# Stops; from starlight to the sun there are fewer.
_LARGEST_EV = 30


def shots_of(folder: Path) -> list[Shot]:
    """The images in name order with exposures 2^EV.

    Raises:
        BracketError: `exposure.txt` does not hold one number an image, or one beyond ±30.
    """
    paths = sorted(path for path in folder.iterdir() if is_photograph(path))
    names = [path.name for path in paths if not read_header(path).is_ours]
    path = folder / EXPOSURES
    try:
        stops = [float(word) for word in file_bytes(path).decode().split()]
    except ValueError as error:
        raise BracketError(f"{path}: {error}", expected="one EV a line, such as 0 2 4") from error
    if len(stops) != len(names):
        raise BracketError(
            f"{path}: {len(stops)} EVs for {len(names)} images ({', '.join(names)})",
            expected="one EV for each image, in name order",
        )
    if not all(abs(stop) <= _LARGEST_EV for stop in stops):
        raise BracketError(
            f"{path}: EVs {', '.join(f'{stop:g}' for stop in stops)}",
            expected=f"stops from -{_LARGEST_EV} to {_LARGEST_EV}, such as 0 2 4",
            fix=f"correct {path}",
        )
    return [Shot(name, 2.0**stop) for name, stop in zip(names, stops, strict=True)]


def read_truth(folder: Path, shortest: float) -> tuple[str, NDArray[np.float32]] | None:
    """(file name, H×W×3 linear, 1.0 = clip of the short frame), None where there is none.

    The stored file is in units of EV 0; `shortest` = 2^EV of the short frame brings it to ours.
    """
    for name in TRUTHS:
        path = folder / name
        if not path.is_file():
            continue
        image = cv2.imdecode(np.frombuffer(file_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.float32 or image.ndim != 3:
            raise BracketError(f"{path}: not a readable Radiance HDR", expected="a complete .hdr")
        return name, np.clip(image[..., ::-1] * np.float32(shortest), 0, 1)
    return None
