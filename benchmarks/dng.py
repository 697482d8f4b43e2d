"""Raw frames as DNG files, uncompressed, with the tags that Android's DngCreator writes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pockethdr.brackets.bracket import SRGB_TO_XYZ

_COLOURS = {"R": 0, "G": 1, "B": 2}
_D65 = 21
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SIGNED = 1, 2, 3, 4, 5, 10


def write_dng(path: Path, codes: np.ndarray, seconds: float, described: dict[str, Any]) -> None:
    """H×W codes of a Bayer sensor; `described` has the fields of a bracket's metadata.json."""
    ccm = np.asarray(described.get("ccm_cam_to_srgb", np.eye(3)))
    camera_from_xyz = np.linalg.inv(SRGB_TO_XYZ @ ccm)
    pattern = bytes(_COLOURS[letter] for letter in described["cfa_pattern"])
    tags: list[tuple[int, int, Any]] = [
        (274, _SHORT, described.get("orientation", 1)),
        (33421, _SHORT, (2, 2)),  # CFARepeatPatternDim
        (33422, _BYTE, pattern),  # CFAPattern
        (33434, _RATIONAL, _fractions([seconds])),  # ExposureTime
        (34855, _SHORT, 100),  # PhotographicSensitivity
        (50706, _BYTE, bytes([1, 4, 0, 0])),  # DNGVersion
        (50708, _ASCII, "Test Phone"),  # UniqueCameraModel
        (50714, _LONG, described["black_level"]),
        (50717, _LONG, described["white_level"]),
        (50721, _SIGNED, _fractions(camera_from_xyz.ravel())),  # ColorMatrix1
        (50728, _RATIONAL, _fractions(described["as_shot_neutral"])),
        (50778, _SHORT, _D65),  # CalibrationIlluminant1
    ]
    tifffile.imwrite(
        path,
        codes.astype(np.uint16),
        photometric="cfa",
        metadata=None,
        extratags=[(code, kind, _count(kind, value), value, True) for code, kind, value in tags],
    )


def _fractions(values: Any) -> tuple[int, ...]:
    """Numerator, denominator, numerator …"""
    exact = [Fraction(float(value)).limit_denominator(1_000_000) for value in values]
    return tuple(part for value in exact for part in (value.numerator, value.denominator))


def _count(kind: int, value: Any) -> int:
    if isinstance(value, int):
        return 1
    return len(value) // 2 if kind in (_RATIONAL, _SIGNED) else len(value)
