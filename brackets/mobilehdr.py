"""Mobile-HDR's published .npz layout (shuaizhengliu/Joint-HDRDN), one bracket a file.

`sht`, `mid`, `lng`: 8×H×W, packed raw (black subtracted, [0, 1]) then the same over the exposure
ratio; `hdr`: 4×H×W, 1.0 = clip level of the short frame. The ratios themselves are not published
and are recovered as raw / aligned. The official code and README disagree on the order of the four
channels, so it is a parameter, and a `metadata.json` beside the files may state it once for all who
read them; either way channels 1 and 2 are the greens at (0, 1) and (1, 0) of a BGGR mosaic.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pockethdr.brackets import metadata
from pockethdr.brackets.bracket import (
    RAW,
    Bracket,
    Camera,
    Frame,
    flip,
    flips_of,
    pack,
    unpack,
)
from pockethdr.brackets.choose import Shot, named
from pockethdr.brackets.formats import MAX_PIXELS, too_large
from pockethdr.errors import BracketError
from pockethdr.files import sha256_of

_PLANES = {"RGGB": (3, 1, 2, 0), "BGGR": (0, 1, 2, 3)}
_CFA = "BGGR"
# What NumPy and zipfile raise on damaged archives: RuntimeError for one that claims encryption.
_UNREADABLE = (
    OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error,
    struct.error,
)  # fmt: skip
_FRAMES = ("sht", "mid", "lng")
_ARRAYS = (*_FRAMES, "hdr")
# Shape and type of an array that is not read.
_Header = tuple[tuple[int, ...], np.dtype[Any]]
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# Levels of the file, not of the sensor: black is already subtracted and white is 1.
_CAMERA = Camera(cfa=_CFA, bit_depth=10, black_level=0.0, white_level=1023.0)


def read_npz(path: Path, *, channel_order: str | None = None) -> Bracket:
    """One Mobile-HDR bracket.

    Args:
        channel_order: see `order_of`.

    Raises:
        BracketError: not such an archive, too large, NaN inside, or channels 4-7 that are not
            channels 0-3 over one constant.
    """
    order, camera = order_of(path, channel_order), metadata.camera_of_archive(path, _CAMERA)
    arrays = _arrays(path)
    shots = [Shot(key, _ratio(path, key, arrays[key])) for key in _FRAMES]
    choice = named(str(path), shots, _FRAMES, "the Mobile-HDR layout")
    _check_rising(path, choice.shots)
    frames = [Frame(path, _mosaic(arrays[shot.name][:4], order)) for shot in choice.shots]
    truth, notes = _ground_truth(path, arrays, order)
    return Bracket(
        name=path.stem,
        domain=RAW,
        frames=(frames[0], frames[1], frames[2]),
        ratios=choice.ratios,
        camera=camera,
        ground_truth=truth,
        flips=flips_of(_CFA),
        selection=choice.sentence,
        exposure_source="channels 0-3 over channels 4-7 of the .npz",
        sha256={
            file.name: sha256_of(file) for file in (path, metadata.about_archive(path)) if file
        },
        notes=(*notes, f"channel order taken as {order}", *_unbalanced(camera)),
    )


def order_of(path: Path, given: str | None) -> str:
    """The order of an archive's channels: "RGGB" as in the official code (`pack_raw_numpy`), or
    "BGGR" as in its README.

    Args:
        given: what the caller says; None as `npz_channel_order` of a `metadata.json` beside or
            above the archive says, or else "RGGB".

    Raises:
        BracketError: no such order.
    """
    if given not in (None, *_PLANES):
        raise BracketError(f"unknown channel order {given!r}", expected=", ".join(_PLANES))
    return given or metadata.order_of_archive(path) or metadata.NPZ_ORDERS[0]


def _unbalanced(camera: Camera) -> list[str]:
    return ["white balance unknown, left at 1"] if camera.wb_gains == (1, 1, 1) else []


def _arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        with zipfile.ZipFile(path) as archive:
            present = {n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")}
            headers = {key: _header(archive, key) for key in _ARRAYS if key in present}
            _check_headers(path, headers, present)  # before a sample is unpacked
            arrays = {key: _array(archive, key) for key in headers}
    except _UNREADABLE as error:
        raise BracketError(
            f"{path}: cannot be read as .npz ({error})",
            expected="a complete NumPy archive without pickled objects",
            fix="download or copy the file again",
        ) from error
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise BracketError(
                f"{path}: {key} holds NaN or infinity",
                expected="finite values in [0, 1]",
                fix="leave this file out; it would poison every range measured on it",
            )
    return {key: array.astype(np.float32) for key, array in arrays.items()}


def _header(archive: zipfile.ZipFile, key: str) -> _Header:
    with archive.open(f"{key}.npy") as member:
        read = _HEADERS.get(npy.read_magic(member))
        if read is None:
            raise ValueError(f"{key} is of another version of .npy")
        shape, _, dtype = read(member)
    return shape, dtype


def _array(archive: zipfile.ZipFile, key: str) -> NDArray[np.floating]:
    with archive.open(f"{key}.npy") as member:
        return np.asarray(npy.read_array(member, allow_pickle=False))


def _check_headers(path: Path, headers: dict[str, _Header], present: set[str]) -> None:
    missing = [key for key in _FRAMES if key not in headers]
    if missing:
        raise BracketError(
            f"{path}: lacks {', '.join(missing)} (has {', '.join(sorted(present)) or 'nothing'})",
            expected="arrays sht, mid, lng (8×H×W) and hdr (4×H×W)",
        )
    first = headers[_FRAMES[0]][0]
    for key, (shape, dtype) in headers.items():
        wanted = (4 if key == "hdr" else 8, *first[1:])
        if shape != wanted or len(shape) != 3 or not np.issubdtype(dtype, np.floating):
            raise BracketError(
                f"{path}: {key} is {dtype} {shape}", expected=f"floating point {wanted}"
            )
    pixels = 4 * first[1] * first[2]
    if pixels > MAX_PIXELS:
        raise too_large(path, path.stat().st_size, f"mosaics of {pixels} pixels")


def _ratio(path: Path, key: str, frame: NDArray[np.float32]) -> float:
    raw, aligned = frame[:4].ravel(), frame[4:].ravel()
    lit = aligned > 1e-5
    ratios = raw[lit] / aligned[lit]
    ratio = float(np.median(ratios)) if lit.any() else float("nan")
    if not (lit.any() and np.abs(ratios / ratio - 1).max() < 0.01):
        raise BracketError(
            f"{path}: channels 4-7 of {key} are not channels 0-3 over one exposure ratio",
            expected="raw, then raw / ratio, as Mobile-HDR publishes it",
        )
    return ratio


def _check_rising(path: Path, shots: tuple[Shot, ...]) -> None:
    if tuple(shot.name for shot in shots) != _FRAMES:
        listed = ", ".join(f"{shot.name} {shot.exposure:g}" for shot in shots)
        raise BracketError(
            f"{path}: its exposure ratios do not rise from sht to lng ({listed})",
            expected="raw in channels 0-3, raw / ratio in channels 4-7",
            fix="swap the halves or the arrays back",
        )


def _mosaic(planes: NDArray[np.float32], order: str) -> NDArray[np.float32]:
    """Stored planes → the sensor's BGGR mosaic → flipped to RGGB."""
    sensor = unpack(planes[list(_PLANES[order])])
    return np.clip(flip(sensor, flips_of(_CFA)), 0, 1)


def _ground_truth(
    path: Path, arrays: dict[str, NDArray[np.float32]], order: str
) -> tuple[NDArray[np.float32] | None, list[str]]:
    if "hdr" not in arrays:
        return None, ["no ground truth: the file has no hdr array"]
    if any("withoutgt" in part.lower() for part in path.parts):
        return None, ["no ground truth: hdr is meaningless in test_withoutGT"]
    return pack(_mosaic(arrays["hdr"], order)), []
