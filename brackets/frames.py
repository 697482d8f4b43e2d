"""The three frames of a choice: decoded side by side in bounded memory, kept there or on disk."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets import formats, layout
from pockethdr.brackets.bracket import RAW, RGB, Pixels
from pockethdr.brackets.burst import Burst
from pockethdr.brackets.choose import Choice, Shot
from pockethdr.brackets.dng import size_of_dng
from pockethdr.brackets.stored import looked_up, stored, table_of
from pockethdr.errors import BracketError

# Decoders hold a whole frame each: as many work side by side as hold no more than this.
_LITTLE = 400e6
# Bytes a pixel while a frame is decoded, measured: its codes, turned, and what the library holds.
_DECODING = {RAW: 6.5, RGB: 11.0}
_T = TypeVar("_T")


def each_frame(burst: Burst, choice: Choice, read: Callable[[Shot], _T], room: float) -> list[_T]:
    """The three frames, read side by side where the memory of their decoders is small."""
    decoders = int(min(room, _LITTLE) / _decoding(burst, choice, room))
    with ThreadPoolExecutor(max(1, decoders)) as pool:
        frames = list(pool.map(read, choice.shots))
    _give_back_freed()
    return frames


def held(shot: Shot, codes: NDArray[Any], values: NDArray[np.float32], stream: bool) -> Pixels:
    """Decoded samples, on disk or as floats in memory.

    Raises:
        BracketError: nothing is to be seen in them.
    """
    darkest, brightest = values[codes.min()], values[codes.max()]
    if brightest <= 0 or darkest >= 1:
        raise BracketError(
            f"{shot.name}: all of it is {'black' if brightest <= 0 else 'white'}",
            expected="a frame in which something is exposed",
            fix="leave it out, or take the bracket again with other exposure times",
        )
    if stream:
        return stored(codes, values)
    return looked_up(codes, table_of(values, codes.dtype))


def _decoding(burst: Burst, choice: Choice, room: float) -> float:
    """Bytes that decoding one frame takes.

    Raises:
        BracketError: more than `room`.
    """
    name = choice.shots[0].name
    path = burst.folder / name
    size = size_of_dng(path) if burst.layout == layout.DNG else formats.read_header(path).size
    pixels = math.prod(size)
    needed = pixels * _DECODING[burst.domain]
    if needed > room:
        raise BracketError(
            f"{name}: decoding its {pixels / 1e6:.1f} MP takes about {needed / 2**20:.0f} MB",
            expected=f"frames that can be decoded in {room / 2**20:.0f} MB",
            fix=f"raise the budget by {math.ceil((needed - room) / 2**20)} MB",
        )
    return needed


def _give_back_freed() -> None:
    """glibc keeps what other threads freed, of three DNGs of 12 MP as much as a tile takes."""
    with contextlib.suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)
