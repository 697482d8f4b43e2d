"""A simulated bracket as a folder that any reader of raw brackets understands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import RAW, Bracket, Camera, flip, unpack
from pockethdr.brackets.exr import write_exr
from pockethdr.errors import BracketError
from pockethdr.files import atomic_path, check_new_folder

_NAMES = ("short.png", "mid.png", "long.png")
_TRUTH = {RAW: "gt_camera_rgb.exr", "rgb": "gt_linear_srgb.exr"}
_TRUTH_NOTES = {
    RAW: "linear camera RGB (no white balance), exact on the sites of cfa_pattern and interpolated "
    "between; mid-frame geometry without motion blur, 1.0 = clip level of the short frame",
    "rgb": "linear sRGB, mid-frame geometry without motion blur, 1.0 = clip of the short frame",
}


def write_bracket(
    bracket: Bracket, folder: Path, *, facts: Mapping[str, Any] | None = None
) -> None:
    """Write frames, ground truth and metadata.json; the folder appears whole or not at all.

    raw: 16-bit PNG mosaics in the sensor's pattern, black level added. rgb: 8-bit PNG.

    Args:
        facts: more entries for metadata.json (licence, seed, notes).

    Raises:
        PocketError: the folder exists and is not empty, or cannot be written.
    """
    check_new_folder(folder)
    if folder.exists():
        folder.rmdir()
    with atomic_path(folder) as building:
        building.mkdir()
        _fill(building, bracket, facts or {})


def _fill(folder: Path, bracket: Bracket, facts: Mapping[str, Any]) -> None:
    for name, frame in zip(_NAMES, bracket.frames, strict=True):
        _write_png(folder / name, _codes(bracket, np.asarray(frame.pixels)))
    if bracket.ground_truth is not None:
        write_exr(folder / _TRUTH[bracket.domain], _truth_image(bracket, bracket.ground_truth))
    metadata = json.dumps({**_metadata(bracket), **facts}, indent=1, allow_nan=False)
    (folder / "metadata.json").write_text(metadata + "\n")


def _codes(bracket: Bracket, pixels: NDArray[np.float32]) -> NDArray[np.integer]:
    if bracket.domain != RAW:
        return np.rint(pixels * 255).astype(np.uint8)
    camera = _camera(bracket)
    codes = pixels * (camera.white_level - camera.black_level) + camera.black_level
    return np.rint(flip(codes, bracket.flips)).astype(np.uint16)


def _write_png(path: Path, codes: NDArray[np.integer]) -> None:
    image = codes if codes.ndim == 2 else codes[..., ::-1]
    coded, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not coded:
        raise BracketError(f"{path}: cannot be coded as PNG")
    path.write_bytes(data.tobytes())


def _truth_image(bracket: Bracket, truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """H×W×3 in sensor orientation."""
    if bracket.domain != RAW:
        return truth.transpose(1, 2, 0)
    planes = _spread(unpack(truth))
    return flip(planes, bracket.flips).transpose(1, 2, 0)


def _spread(mosaic: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGGB mosaic H×W → 3×H×W: each colour kept at its sites, averaged from them elsewhere."""
    rows, columns = np.indices(mosaic.shape)
    colour = rows % 2 + columns % 2
    kernel = np.array([[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]], np.float32)
    planes = []
    for index in range(3):
        sites = (colour == index).astype(np.float32)
        total = cv2.filter2D(mosaic * sites, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        weight = cv2.filter2D(sites, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        planes.append(np.where(sites > 0, mosaic, total / weight))
    return np.stack(planes).astype(np.float32)


def _metadata(bracket: Bracket) -> dict[str, Any]:
    times = [frame.exposure_s for frame in bracket.frames]
    if None in times:
        times = list(bracket.ratios)
    steps = (bracket.ratios[1], bracket.ratios[2] / bracket.ratios[1])
    even = abs(steps[0] - steps[1]) < 1e-6 * steps[0]
    described = {
        "scene": bracket.name,
        "kind": f"simulated phone {bracket.domain} bracket from an HDR image",
        "files": list(_NAMES),
        "exposure_times_s": times,
        "exposure_ratio": steps[0] if even else list(steps),
        "reference_frame": _NAMES[1],
        "has_ground_truth": bracket.ground_truth is not None,
    }
    if bracket.ground_truth is not None:
        described["ground_truth"] = _TRUTH[bracket.domain]
        described["ground_truth_notes"] = _TRUTH_NOTES[bracket.domain]
    return described if bracket.domain != RAW else {**described, **_sensor(_camera(bracket))}


def _sensor(camera: Camera) -> dict[str, Any]:
    gains = [float(gain) for gain in camera.wb_gains]
    sensor: dict[str, Any] = {
        "cfa_pattern": camera.cfa,
        "bit_depth": camera.bit_depth,
        "black_level": camera.black_level,
        "white_level": camera.white_level,
        "as_shot_neutral": [1 / gain for gain in gains],
        "white_balance_gains": gains,
        "ccm_cam_to_srgb": camera.ccm.tolist(),
    }
    if camera.noise:
        sensor["noise_profile_dng_convention"] = {
            "formula": "var(x) = S*x + O, x in [0,1] after black level",
            "S": camera.noise[0],
            "O": camera.noise[1],
        }
    return sensor


def _camera(bracket: Bracket) -> Camera:
    if bracket.camera is None:
        raise BracketError(f"{bracket.name}: a raw bracket without its camera")
    return bracket.camera
