"""Frames as the integers of their files: a fraction of the floats, and turned into them by tables.

A sample has at most 2^16 codes, so whatever is done to each alone (black level, scale, clip, camera
response) is a table of that many entries, computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from pockethdr.brackets.spool import Spool

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Stored:
    """Pixels of a `Frame` that lie on disk as codes.

    Attributes:
        codes: H×W (raw) or H×W×3 (rgb), uint8 or uint16.
        values: float32, one for each possible code: the pixel in [0, 1].
    """

    codes: Spool
    values: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Some rows as float32."""
        return looked_up(self.codes.read(rows), self.table())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or np.float32, copy=False)

    def table(self, curve: Curve | None = None, divisor: float = 1.0) -> NDArray[np.float32]:
        """The codes' values, through a response curve, over `divisor`: for `looked_up`."""
        values = self.values
        if curve is not None:
            values = curve(np.repeat(values[:, None], 3, axis=1))
        return table_of(values / np.float32(divisor), self.codes.dtype)


def stored(codes: NDArray[Any], values: NDArray[np.float32]) -> Stored:
    """Move decoded samples out of memory.

    Raises:
        OSError: no room for the temporary file.
    """
    spool = Spool(codes.shape, codes.dtype)
    spool.write(0, 0, codes)
    return Stored(spool, values)


def table_of(values: NDArray[np.float32], codes: DTypeLike) -> NDArray[np.float32]:
    """N or N×3 values as OpenCV's tables want them: an entry for each code of the type."""
    missing = np.iinfo(codes).max + 1 - len(values)
    filled = np.pad(values.reshape(len(values), -1), ((0, missing), (0, 0)), mode="edge")
    return np.ascontiguousarray(filled[:, None, :], np.float32)


def looked_up(codes: NDArray[Any], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """table[codes], for each channel its own where the table has three."""
    return np.asarray(cv2.LUT(codes, table), np.float32)
