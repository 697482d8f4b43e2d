"""Brackets from disk, whatever their layout; see docs/data.md for every one that is accepted.

find_brackets(root)  →  paths, in a fixed order
read_bracket(path)   →  Bracket: three frames, ratios, ground truth, all hashed and explained
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets import formats, layout
from pockethdr.brackets.bracket import (
    CHANNELS,
    RAW,
    RGB,
    Bracket,
    Camera,
    Frame,
    Pixels,
    flip,
    flips_of,
    mosaic_of,
    pack,
)
from pockethdr.brackets.burst import (
    Burst,
    choose_triplet,
    read_burst,
    well_exposed,
    well_exposed_linear,
)
from pockethdr.brackets.choose import Choice, Shot
from pockethdr.brackets.frames import each_frame, held
from pockethdr.brackets.icc import foreign_profile
from pockethdr.brackets.mobilehdr import read_npz
from pockethdr.brackets.mosaic import read_codes, whole_quads
from pockethdr.brackets.ratios import checked
from pockethdr.brackets.response import FIXED, Response, fit_debevec
from pockethdr.brackets.response_names import RESPONSES
from pockethdr.brackets.truth import Truth, read_truth
from pockethdr.errors import BracketError
from pockethdr.files import sha256_of

_LOG = logging.getLogger(__name__)
# Responses that mean sRGB codes; the others say themselves what the samples as stored mean.
_OF_SRGB = ("srgb", "debevec")
# Of so many rows of a mosaic two tell how well it is exposed.
_SAMPLED = 16


def find_brackets(root: Path, *, domain: str | None = None) -> list[Path]:
    """The bracket folders and .npz files at or under `root`, sorted by path.

    Folders that only look like brackets are left out; `layout.search` says which and why, and the
    logger `pockethdr.brackets.read` repeats it at level INFO.

    Raises:
        BracketError: `root` does not exist or holds no bracket (of this domain).
    """
    found = layout.search(Path(root), domain=domain)
    for note in found.notes:
        _LOG.info(note)
    return list(found.brackets)


def read_bracket(
    folder: Path,
    *,
    domain: str | None = None,
    triplet: tuple[str, str, str] | None = None,
    response: str = "auto",
    channel_order: str | None = None,
    stream: bool = False,
    room: float = math.inf,
) -> Bracket:
    """Read one bracket: three exposures, float32, ordered short, mid, long.

    Args:
        folder: a bracket folder, or one Mobile-HDR .npz.
        domain: refuse a bracket that is not of this domain.
        triplet: file names of the three frames, where the folder holds more.
        response: how encoded rgb becomes linear: "auto" (gamma22 for Kalantari folders, else
            srgb), "srgb", "gamma22", "linear", or "debevec", fitted to all frames of the folder,
            which must show one static scene.
        channel_order: of Mobile-HDR channels, see `mobilehdr.read_npz`.
        stream: keep the frames on disk, as the integers they were stored as, and leave the ground
            truth: for fusing frames of any size in little memory.
        room: bytes that decoders may hold at once.

    Raises:
        BracketError: anything about the folder or its files that makes the bracket unusable, or a
            frame that does not fit into `room`.
        Unavailable: DNG frames without rawpy.
    """
    _check_options(domain, response)
    path = Path(folder)
    kind = layout.layout_of(path, domain)
    if kind == layout.NPZ:
        _check_domain(path, RAW, domain)
        _check_response(path, RAW, response)
        return read_npz(_one_npz(path), channel_order=channel_order)
    burst = read_burst(path, kind)
    _check_domain(path, burst.domain, domain)
    _check_response(path, burst.domain, response)
    choice = choose_triplet(burst, triplet, lambda file: _exposedness(burst, file))
    if burst.domain == RAW:
        return checked(_raw(burst, choice, stream, room), assumed_response=False)
    found = _rgb(burst, choice, response, stream, room)
    return checked(found, assumed_response=response != "debevec")


def _raw(burst: Burst, choice: Choice, stream: bool, room: float) -> Bracket:
    def frame(shot: Shot) -> tuple[Pixels, Camera, int, tuple[int, ...]]:
        coded = read_codes(burst.folder / shot.name, burst.camera)
        # Before the flip, which moves the red sites of an odd mosaic.
        codes = flip(whole_quads(coded.codes), flips_of(coded.camera.cfa))
        pixels = held(shot, codes, coded.values, stream)
        return pixels, coded.camera, coded.orientation, coded.codes.shape

    frames, cameras, orientations, sizes = zip(*each_frame(burst, choice, frame, room), strict=True)
    _check_orientations(burst, choice, orientations)
    height, width = _common_size(burst, choice, sizes)
    flips = flips_of(cameras[1].cfa)
    truth = _truth(burst, choice, (height, width), stream)
    return Bracket(
        domain=RAW,
        camera=cameras[1],
        flips=flips,
        padding=(height % 2, width % 2),
        orientation=orientations[1],
        ground_truth=None if truth.image is None else _packed(whole_quads(truth.image), flips),
        **_common(burst, choice, frames, truth),
    )


def _rgb(burst: Burst, choice: Choice, curve: str, stream: bool, room: float) -> Bracket:
    curve = burst.response if curve == "auto" else curve
    as_stored = curve not in _OF_SRGB

    def frame(shot: Shot) -> Pixels:
        codes = formats.colour_pixels(burst.folder / shot.name, as_stored=as_stored)
        largest = np.iinfo(codes.dtype).max
        return held(
            shot, codes, np.arange(largest + 1, dtype=np.float32) / np.float32(largest), stream
        )

    frames = each_frame(burst, choice, frame, room)
    size = _common_size(burst, choice, [pixels.shape for pixels in frames])
    truth = _truth(burst, choice, size, stream)
    headers = [formats.read_header(burst.folder / shot.name) for shot in choice.shots]
    _check_orientations(burst, choice, [header.orientation for header in headers])
    return Bracket(
        domain=RGB,
        orientation=headers[1].orientation,
        ground_truth=None
        if truth.image is None
        else np.ascontiguousarray(truth.image.transpose(2, 0, 1)),
        response=_response(burst, choice, curve),
        **_common(burst, choice, frames, truth, _profiles(headers, as_stored, curve)),
    )


def _profiles(headers: Sequence[formats.Header], as_stored: bool, curve: str) -> list[str]:
    """What became of colour profiles other than sRGB's, a sentence each."""
    names = {foreign_profile(header.path, header.icc) for header in headers}
    if as_stored:
        what = f"profile of {{}} left aside: response {curve} takes the samples as stored"
    else:
        what = "colours converted from {} to sRGB"
    return [what.format(name) for name in sorted(filter(None, names))]


def _truth(burst: Burst, choice: Choice, size: tuple[int, int], stream: bool) -> Truth:
    return Truth(None) if stream else read_truth(burst, choice, size)


def _common(
    burst: Burst,
    choice: Choice,
    pixels: Sequence[Pixels],
    truth: Truth,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The fields of a Bracket that both domains fill alike."""
    shots = [
        Frame(burst.folder / shot.name, frame, shot.seconds)
        for shot, frame in zip(choice.shots, pixels, strict=True)
    ]
    names = [shot.name for shot in choice.shots] + list(burst.files)
    names += [truth.file] if truth.file else []
    return {
        "name": burst.folder.resolve().name,
        "frames": tuple(shots),
        "ratios": choice.ratios,
        "selection": choice.sentence,
        "exposure_source": burst.exposure_source,
        "sha256": {name: sha256_of(burst.folder / name) for name in names},
        "notes": (*burst.notes, *([truth.note] if truth.note else []), *notes),
    }


def _packed(truth: NDArray[np.float32], flips: tuple[bool, bool]) -> NDArray[np.float32]:
    """Full RGB in the sensor's geometry → RGGB planes, flipped as the frames were."""
    planes = flip(truth.transpose(2, 0, 1), flips)
    return pack(mosaic_of(planes.transpose(1, 2, 0)))


def _response(burst: Burst, choice: Choice, curve: str) -> Response:
    """A fitted one is of all frames that have the size of those that were chosen."""
    if curve != "debevec":
        return FIXED[curve]
    small = {shot: formats.read_small(burst.folder / shot.name) for shot in burst.shots}
    size = next(frame.shape for shot, frame in small.items() if shot.name == choice.shots[1].name)
    alike = [shot for shot, frame in small.items() if frame.shape == size]
    return fit_debevec(
        [small[shot] for shot in alike],
        [shot.exposure for shot in alike],
        where=str(burst.folder),
    )


def _exposedness(burst: Burst, file: Path) -> float:
    if burst.domain == RAW:
        coded = read_codes(file, burst.camera)
        some = coded.codes[np.arange(len(coded.codes)) % _SAMPLED < 2]  # whole rows of quads
        return well_exposed_linear(coded.values[some])
    return well_exposed(formats.read_small(file) / np.float32(255))


def _common_size(
    burst: Burst, choice: Choice, shapes: Sequence[tuple[int, ...]]
) -> tuple[int, int]:
    sizes = [shape[:2] for shape in shapes]
    if len(set(sizes)) > 1:
        listed = ", ".join(
            f"{shot.name} {height}×{width}"
            for shot, (height, width) in zip(choice.shots, sizes, strict=True)
        )
        raise BracketError(
            f"{burst.folder}: frames of different sizes ({listed})",
            expected="one size",
            fix="crop them alike, or leave the odd one out",
        )
    height, width = sizes[0]
    return height, width


def _check_orientations(burst: Burst, choice: Choice, orientations: Sequence[int]) -> None:
    if len(set(orientations)) > 1:
        listed = ", ".join(
            f"{shot.name} {orientation}"
            for shot, orientation in zip(choice.shots, orientations, strict=True)
        )
        raise BracketError(
            f"{burst.folder}: frames of different EXIF orientations ({listed})",
            expected="one orientation: the pixels of all frames lie alike",
            fix="take the bracket without turning the phone, or correct the tags",
        )


def _one_npz(path: Path) -> Path:
    if path.is_file():
        return path
    files = layout.npz_files(path)
    if len(files) > 1:
        raise BracketError(
            f"{path}: {len(files)} .npz files, each a bracket of its own",
            expected="one of them",
            fix=f"name one, such as {files[0]}",
        )
    return files[0]


def _check_options(domain: str | None, curve: str) -> None:
    if domain is not None and domain not in CHANNELS:
        raise BracketError(f"unknown domain {domain!r}", expected=" or ".join(CHANNELS))
    if curve not in RESPONSES:
        raise BracketError(f"unknown camera response {curve!r}", expected=", ".join(RESPONSES))


def _check_response(path: Path, domain: str, curve: str) -> None:
    if domain == RAW and curve != "auto":
        raise BracketError(
            f"{path}: a raw bracket, which has no camera response to undo ({curve})",
            expected="auto",
            fix="leave --response out",
        )


def _check_domain(path: Path, found: str, wanted: str | None) -> None:
    if wanted not in (None, found):
        raise BracketError(
            f"{path}: {layout.A[found]} bracket",
            expected=f"{layout.A[wanted]} bracket",
            fix=f"use a model of the {found} domain (--domain {found}), or another folder",
        )
