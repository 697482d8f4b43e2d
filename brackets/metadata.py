"""`metadata.json`: what a bracket folder says of itself where EXIF cannot.

Needed: `files` and `exposure_times_s`, of one length. A raw bracket adds `cfa_pattern`,
`bit_depth`, `black_level` and `white_level`. Everything else is optional; unknown fields are left
alone. See docs/data.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.brackets.bracket import Camera
from pockethdr.brackets.choose import Shot
from pockethdr.brackets.formats import file_bytes
from pockethdr.errors import BracketError

NAME = "metadata.json"
_RAW_FIELDS = ("cfa_pattern", "bit_depth", "black_level", "white_level")
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
        ground_truth=data.get("ground_truth") if data.get("has_ground_truth", True) else None,
        pseudo_truth=data.get("has_ground_truth") == "pseudo",
    )


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
    """True where the folder holds pictures to make brackets from, not a bracket."""
    files = data.get("files")
    objects = isinstance(files, list) and any(isinstance(entry, dict) for entry in files)
    return objects or data.get("exposure_times_s") == []


def _exposures(path: Path, data: dict[str, Any], times: list[float]) -> tuple[list[float], str]:
    """Shutter times, unless the file itself calls them unreliable and gives measured ratios."""
    if data.get("exposure_times_reliable", True):
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
    if not triplets:
        return None
    try:
        return tuple(float(seconds) for seconds in triplets[0])
    except (TypeError, ValueError) as error:
        raise _bad(path, "suggested_triplets_s is malformed", "a list of three times each") from (
            error
        )


def _camera(path: Path, data: dict[str, Any]) -> Camera | None:
    if not any(field in data for field in _RAW_FIELDS):
        return None
    missing = [field for field in _RAW_FIELDS if field not in data]
    if missing:
        raise _bad(path, f"lacks {', '.join(missing)}", "all of " + ", ".join(_RAW_FIELDS))
    if data["bit_depth"] not in range(1, 17):
        raise _bad(path, f"bit_depth is {data['bit_depth']!r}", "a whole number from 1 to 16")
    noise = data.get("noise_profile_dng_convention")
    try:
        red, green, blue = (float(gain) for gain in data.get("white_balance_gains", (1, 1, 1)))
        return Camera(
            cfa=str(data["cfa_pattern"]).upper(),
            bit_depth=int(data["bit_depth"]),
            black_level=float(data["black_level"]),
            white_level=float(data["white_level"]),
            wb_gains=(red, green, blue),
            ccm=np.asarray(data.get("ccm_cam_to_srgb", np.eye(3)), np.float32).reshape(3, 3),
            noise=(float(noise["S"]), float(noise["O"])) if noise else None,
        )
    except BracketError as error:
        raise _bad(path, error.what, error.expected) from error
    except (TypeError, ValueError, KeyError) as error:
        raise _bad(path, f"a camera field is malformed ({error})", "numbers") from error


def _check_files(path: Path, names: list[str]) -> None:
    for name in names:
        if Path(name).name != name:
            raise _bad(path, f"names {name!r}", "file names of its own folder, without slashes")
        if not (path.parent / name).is_file():
            raise _bad(path, f"names {name}, which is not in {path.parent}", "files that exist")


def _list_of(path: Path, data: dict[str, Any], field: str, kind: type) -> list[Any]:
    if field not in data:
        raise _bad(path, f"lacks the field {field}", f"an object such as {_EXAMPLE}")
    values = data[field]
    wanted = (int, float) if kind is float else kind
    right = isinstance(values, list) and all(
        isinstance(value, wanted) and not isinstance(value, bool) for value in values
    )
    if not right:
        raise _bad(
            path, f"{field} is {values!r}", f"a list of {'numbers' if kind is float else 'names'}"
        )
    return [kind(value) for value in values]


def _bad(path: Path, what: str, expected: str) -> BracketError:
    return BracketError(f"{path}: {what}", expected=expected, fix=f"correct {path}")
