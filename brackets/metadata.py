"""`metadata.json`: what a bracket folder says of itself where EXIF cannot.

Needed: `files` and `exposure_times_s`, of one length. A raw bracket adds `cfa_pattern`,
`bit_depth`, `black_level` and `white_level`. Everything else is optional; unknown fields are left
alone. Beside or above Mobile-HDR's .npz it tells the order of their channels and their colours, and
needs nothing. See docs/data.md.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import Camera
from pockethdr.brackets.choose import Shot
from pockethdr.brackets.formats import file_bytes
from pockethdr.errors import BracketError

NAME = "metadata.json"
#: Of the channels of Mobile-HDR's .npz: as its code packs them, and as its README says.
NPZ_ORDERS = ("RGGB", "BGGR")
_ORDER = "npz_channel_order"
# Folders between Mobile-HDR's own and its files: NPZ_data/test_npz/test_withGT/scene1.npz.
_ARCHIVE_DEPTH = 3
_RAW_FIELDS = ("cfa_pattern", "bit_depth", "black_level", "white_level")
_NUMBERS = "finite numbers"
_LARGEST = float(np.finfo(np.float32).max)
_EXAMPLE = (
    '{"files": ["short.png", "mid.png", "long.png"], "exposure_times_s": [0.001, 0.004, 0.016]}'
)


@dataclass(frozen=True)
class Metadata:
    """A parsed, checked `metadata.json`.

    Attributes:
        shots: the frames it lists, in its order.
        exposure_source: where their relative exposures come from.
        suggested_names, suggested_seconds: the triplet it recommends, by either key.
        camera: None for rgb brackets.
        ground_truth: file name, None where there is none.
        pseudo_truth: the ground truth is only a lower-noise reference.
    """

    path: Path
    shots: tuple[Shot, ...]
    exposure_source: str
    suggested_names: tuple[str, ...] | None
    suggested_seconds: tuple[float, ...] | None
    camera: Camera | None
    ground_truth: str | None
    pseudo_truth: bool


def read_metadata(folder: Path) -> Metadata:
    """Parse `folder/metadata.json`.

    Raises:
        BracketError: not JSON, a field missing or of the wrong kind, or files that are not there.
    """
    path = folder / NAME
    data = load(path)
    names = _list_of(path, data, "files", str)
    times = _list_of(path, data, "exposure_times_s", float)
    if len(names) != len(times):
        raise _bad(path, f"{len(names)} files but {len(times)} exposure_times_s", "one time a file")
    _check_files(path, names)
    exposures, source = _exposures(path, data, times)
    return Metadata(
        path=path,
        shots=tuple(Shot(*shot) for shot in zip(names, exposures, times, strict=True)),
        exposure_source=source,
        suggested_names=_names_of_triplet(path, data),
        suggested_seconds=_seconds_of_triplet(path, data),
        camera=_camera(path, data),
        ground_truth=_ground_truth(path, data),
        pseudo_truth=data.get("has_ground_truth") == "pseudo",
    )


def about_archive(path: Path) -> Path | None:
    """The `metadata.json` that tells of a Mobile-HDR .npz: the nearest, from beside it up to the
    data set's own folder."""
    above = path.absolute().parents[: _ARCHIVE_DEPTH + 1]
    return next((file for folder in above if (file := folder / NAME).is_file()), None)


def order_of_archive(path: Path) -> str | None:
    """The order of a Mobile-HDR .npz's channels; None where nothing states it.

    Raises:
        BracketError: the `metadata.json` is not JSON, or states what is no order.
    """
    file = about_archive(path)
    order = load(file).get(_ORDER) if file else None
    if file and order is not None and order not in NPZ_ORDERS:
        raise _wrong(file, _ORDER, order, " or ".join(NPZ_ORDERS))
    return order


def camera_of_archive(path: Path, camera: Camera) -> Camera:
    """`camera` with the white balance and the matrix that a `metadata.json` gives a .npz.

    Raises:
        BracketError: not JSON, or a field of the wrong kind.
    """
    file = about_archive(path)
    return _coloured(file, load(file), camera) if file else camera


def load(path: Path) -> dict[str, Any]:
    """The file as a JSON object.

    Raises:
        BracketError: it is not one.
    """
    try:
        data = json.loads(file_bytes(path))
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"not JSON ({error})", f"an object such as {_EXAMPLE}") from error
    if not isinstance(data, dict):
        raise _bad(path, f"holds a {type(data).__name__}", f"an object such as {_EXAMPLE}")
    return data


def is_collection(data: Mapping[str, Any]) -> bool:
    """True where the folder holds pictures or archives of brackets, and is not a bracket."""
    files = data.get("files")
    objects = isinstance(files, list) and any(isinstance(entry, dict) for entry in files)
    of_archives = files is None and _ORDER in data
    return objects or of_archives or data.get("exposure_times_s") == []


def _exposures(path: Path, data: dict[str, Any], times: list[float]) -> tuple[list[float], str]:
    """Shutter times, unless the file itself calls them unreliable and gives measured ratios."""
    reliable = data.get("exposure_times_reliable", True)
    if not isinstance(reliable, bool):
        raise _wrong(path, "exposure_times_reliable", reliable, "true or false")
    if reliable:
        return times, f"exposure_times_s of {NAME}"
    measured = next((key for key in data if key.startswith("measured_relative_exposure")), None)
    if measured is None:
        raise _bad(
            path,
            "exposure_times_reliable is false and no measured_relative_exposure is given",
            "relative exposures, one a file",
        )
    exposures = _list_of(path, data, measured, float)
    if len(exposures) != len(times):
        raise _bad(path, f"{measured} has {len(exposures)} entries", f"{len(times)}, one a file")
    return exposures, f"{measured} of {NAME} (its exposure times are marked unreliable)"


def _names_of_triplet(path: Path, data: dict[str, Any]) -> tuple[str, ...] | None:
    if "suggested_triplet" not in data:
        return None
    return tuple(_list_of(path, data, "suggested_triplet", str))


def _seconds_of_triplet(path: Path, data: dict[str, Any]) -> tuple[float, ...] | None:
    triplets = data.get("suggested_triplets_s")
    if triplets in (None, []):
        return None
    first = triplets[0] if isinstance(triplets, list) else None
    if not (isinstance(first, list) and len(first) == 3 and all(map(_is_number, first))):
        raise _wrong(path, "suggested_triplets_s", triplets, "a list of three exposure times each")
    return tuple(map(float, first))


def _ground_truth(path: Path, data: dict[str, Any]) -> str | None:
    """The file's name; whether it is there is asked when it is read."""
    given = data.get("has_ground_truth", True)
    if not (isinstance(given, bool) or given == "pseudo"):
        raise _wrong(path, "has_ground_truth", given, 'true, false or "pseudo"')
    name = data.get("ground_truth") if given else None
    if name is not None and not _is_plain(name):
        raise _wrong(path, "ground_truth", name, "a file name of its own folder, without slashes")
    return name


def _camera(path: Path, data: dict[str, Any]) -> Camera | None:
    if not any(field in data for field in _RAW_FIELDS):
        return None
    missing = [field for field in _RAW_FIELDS if field not in data]
    if missing:
        raise _bad(path, f"lacks {', '.join(missing)}", "all of " + ", ".join(_RAW_FIELDS))
    if data["bit_depth"] not in range(1, 17):
        raise _wrong(path, "bit_depth", data["bit_depth"], "a whole number from 1 to 16")
    try:
        camera = Camera(
            cfa=str(data["cfa_pattern"]).upper(),
            bit_depth=int(data["bit_depth"]),
            black_level=float(_array_of(path, data, "black_level")),
            white_level=float(_array_of(path, data, "white_level")),
            noise=_noise(path, data),
        )
    except BracketError as error:
        raise _bad(path, error.what, error.expected) from error
    return _coloured(path, data, camera)


def _coloured(path: Path, data: dict[str, Any], camera: Camera) -> Camera:
    red, green, blue = _array_of(path, data, "white_balance_gains", np.ones(3))
    ccm = _array_of(path, data, "ccm_cam_to_srgb", np.eye(3)).astype(np.float32)
    try:
        return replace(camera, wb_gains=(float(red), float(green), float(blue)), ccm=ccm)
    except BracketError as error:
        raise _bad(path, error.what, error.expected) from error


def _noise(path: Path, data: dict[str, Any]) -> tuple[float, float] | None:
    field = "noise_profile_dng_convention"
    noise = data.get(field)
    if noise is None:
        return None
    if not (isinstance(noise, dict) and _is_number(noise.get("S")) and _is_number(noise.get("O"))):
        raise _wrong(path, field, noise, f"an object with S and O, {_NUMBERS}")
    return float(noise["S"]), float(noise["O"])


def _check_files(path: Path, names: list[str]) -> None:
    for name in names:
        if not _is_plain(name):
            raise _bad(path, f"names {name!r}", "file names of its own folder, without slashes")
        if not (path.parent / name).is_file():
            raise _bad(path, f"names {name}, which is not in {path.parent}", "files that exist")


def _list_of(path: Path, data: dict[str, Any], field: str, kind: type) -> list[Any]:
    if field not in data:
        raise _bad(path, f"lacks the field {field}", f"an object such as {_EXAMPLE}")
    values = data[field]
    right = _is_number if kind is float else lambda value: isinstance(value, kind)
    if not (isinstance(values, list) and all(map(right, values))):
        expected = f"a list of {_NUMBERS if kind is float else 'names'}"
        raise _wrong(path, field, values, expected)
    return [kind(value) for value in values]


def _array_of(
    path: Path, data: dict[str, Any], field: str, default: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """As many numbers as the default has, in its shape; one number where there is no default."""
    shape = () if default is None else default.shape
    value = data.get(field, default)
    numbers = np.array(value, dtype=object)
    if numbers.size != math.prod(shape) or not all(map(_is_number, numbers.flat)):
        expected = "×".join(map(str, shape)) + f" {_NUMBERS}" if shape else "a finite number"
        raise _wrong(path, field, value, expected)
    return numbers.reshape(shape).astype(np.float64)


def _is_number(value: object) -> bool:
    """A number that pixels (float32) can hold: not NaN or Infinity, which json takes; not true."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST


def _is_plain(name: object) -> bool:
    """A file name of one folder: nothing that leads out of it."""
    return isinstance(name, str) and name not in ("", "..") and Path(name).name == name


def _wrong(path: Path, field: str, value: object, expected: str) -> BracketError:
    return _bad(path, f"{field} is {reprlib.repr(value)}", expected)


def _bad(path: Path, what: str, expected: str) -> BracketError:
    return BracketError(f"{path}: {what}", expected=expected, fix=f"correct {path}")
