"""A folder of exposures before any is decoded: the shots, the camera, the ground truth's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pockethdr.brackets import choose, formats, kalantari, layout
from pockethdr.brackets.bracket import RAW, RGB, Camera, linear_to_srgb, srgb_to_linear
from pockethdr.brackets.choose import Choice, Shot
from pockethdr.brackets.dng import exposure_of_dng
from pockethdr.brackets.formats import Header
from pockethdr.brackets.metadata import NAME, read_metadata
from pockethdr.brackets.ratios import measured_exposures
from pockethdr.errors import BracketError

# Encoded values that say something: above the noise, below the clip.
_USEFUL = (0.05, 0.95)


@dataclass(frozen=True)
class Burst:
    """What a folder offers.

    Attributes:
        files: what describes the folder besides its images (for the hashes).
        camera: of a raw burst, None for rgb and for DNG (each file carries its own).
        response: the curve this kind of folder means by "auto".
        suggested_names, suggested_seconds: the folder's own triplet, if it names one.
        notes: sentences on photographs that were left out.
    """

    folder: Path
    layout: str
    domain: str
    shots: tuple[Shot, ...]
    exposure_source: str
    files: tuple[str, ...] = ()
    camera: Camera | None = None
    response: str = "srgb"
    ground_truth: str | None = None
    pseudo_truth: bool = False
    suggested_names: tuple[str, ...] | None = None
    suggested_seconds: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


def read_burst(folder: Path, kind: str) -> Burst:
    """Describe a folder of the given layout.

    Raises:
        BracketError: exposures missing, equal, not positive, or fewer than three.
    """
    readers = {
        layout.METADATA: _from_metadata,
        layout.KALANTARI: _from_kalantari,
        layout.DNG: _from_dng,
        layout.PHOTOGRAPHS: _from_exif,
    }
    burst = readers[kind](folder)
    choose.check_shots(str(folder), burst.shots)
    return burst


def choose_triplet(
    burst: Burst, names: Sequence[str] | None, exposedness: Callable[[Path], float]
) -> Choice:
    """Three shots: the caller's, the only three, the folder's suggestion, or the best spread."""
    where = str(burst.folder)
    if names is not None:
        return choose.named(where, burst.shots, names, "the caller")
    if len(burst.shots) == 3:
        only = [shot.name for shot in burst.shots]
        return choose.named(where, burst.shots, only, "the folder, which holds these three")
    if burst.suggested_names:
        source = f"suggested_triplet of {NAME}"
        return choose.named(where, burst.shots, burst.suggested_names, source)
    if burst.suggested_seconds:
        source = f"suggested_triplets_s[0] of {NAME}"
        return choose.timed(where, burst.shots, burst.suggested_seconds, source)
    best = max(burst.shots, key=lambda shot: exposedness(burst.folder / shot.name))
    return choose.nearest_to_four(where, burst.shots, best)


def well_exposed(encoded: np.ndarray) -> float:
    """The share of samples in [0, 1] that are neither nearly black nor nearly clipped."""
    low, high = _USEFUL
    return float(np.mean((encoded > low) & (encoded < high)))


def well_exposed_linear(linear: np.ndarray) -> float:
    """`well_exposed` of linear samples."""
    return well_exposed(linear_to_srgb(linear))


def _from_metadata(folder: Path) -> Burst:
    described = read_metadata(folder)
    return Burst(
        folder=folder,
        layout=layout.METADATA,
        domain=RAW if described.camera else RGB,
        shots=described.shots,
        exposure_source=described.exposure_source,
        files=(NAME,),
        camera=described.camera,
        ground_truth=described.ground_truth,
        pseudo_truth=described.pseudo_truth,
        suggested_names=described.suggested_names,
        suggested_seconds=described.suggested_seconds,
    )


def _from_kalantari(folder: Path) -> Burst:
    return Burst(
        folder=folder,
        layout=layout.KALANTARI,
        domain=RGB,
        shots=tuple(kalantari.shots_of(folder)),
        exposure_source=f"2^EV of {layout.EXPOSURES}",
        files=(layout.EXPOSURES,),
        response="gamma22",
    )


def _from_exif(folder: Path) -> Burst:
    paths = sorted(path for path in folder.iterdir() if formats.is_photograph(path))
    headers, notes = _exposures_among([formats.read_header(path) for path in paths])
    if len(headers) > 2 and any(header.exposure_s is None for header in headers):
        estimated = _from_pixels(folder, [header.path for header in headers])
        if estimated is not None:
            return replace(estimated, notes=notes)
    shots, source = _exposures([_settings(header) for header in headers])
    return Burst(folder, layout.PHOTOGRAPHS, RGB, shots, source, notes=notes)


def _exposures_among(headers: Sequence[Header]) -> tuple[list[Header], tuple[str, ...]]:
    """Those that are exposures of a bracket, and a sentence on each other picture beside them."""
    others = {h.path.name: "made by PocketHDR" for h in headers if h.is_ours}
    kept = [h for h in headers if not h.is_ours]
    if sum(h.exposure_s is not None for h in kept) > 2:
        others |= {h.path.name: "no EXIF exposure time" for h in kept if h.exposure_s is None}
        kept = [h for h in kept if h.exposure_s is not None]
    return kept, tuple(f"left out {name}: {why}" for name, why in others.items())


def _from_pixels(folder: Path, paths: Sequence[Path]) -> Burst | None:
    """A burst whose exposures EXIF does not know; None where the pixels do not tell either."""
    linear = [srgb_to_linear(formats.read_small(path) / np.float32(255)) for path in paths]
    alike = len({image.shape for image in linear}) == 1
    exposures = measured_exposures(linear) if alike else None
    if exposures is None:
        return None
    shots = tuple(Shot(path.name, e) for path, e in zip(paths, exposures, strict=True))
    return Burst(folder, layout.PHOTOGRAPHS, RGB, shots, "the pixels: EXIF has no exposure times")


def _from_dng(folder: Path) -> Burst:
    settings = [(path.name, *exposure_of_dng(path)) for path in layout.dng_files(folder)]
    shots, source = _exposures(settings)
    return Burst(folder, layout.DNG, RAW, shots, source)


Settings = tuple[str, float | None, float | None, float | None]


def _settings(header: Header) -> Settings:
    if header.exposure_s is None:
        raise BracketError(
            f"{header.path}: no EXIF exposure time, and no {NAME} beside it",
            expected="exposure times of every frame",
            fix=f"take it out of the folder, take the originals from the phone, or write "
            f"{header.path.parent / NAME} with files and exposure_times_s",
        )
    return header.path.name, header.exposure_s, header.iso, header.f_number


def _exposures(settings: Sequence[Settings]) -> tuple[tuple[Shot, ...], str]:
    """Relative exposure is time × ISO / f-number²; what did not change may be left unknown.

    Phones have one aperture: where some frame does not say it, it counts for none.
    """
    said = all(f_number for *_, f_number in settings)
    gains = [_gain(iso, f_number if said else None) for _, _, iso, f_number in settings]
    if all(gains) and max(gains, default=0) > 1.02 * min(gains, default=0):
        source = "EXIF exposure time × ISO / f-number²"
    else:
        gains, source = [1.0] * len(settings), "EXIF exposure times"
    shots = tuple(
        Shot(name, (seconds or 0.0) * gain, seconds)
        for (name, seconds, _, _), gain in zip(settings, gains, strict=True)
    )
    return shots, source


def _gain(iso: float | None, f_number: float | None) -> float:
    """ISO / f-number², 0 where EXIF holds no ISO or nonsense."""
    iso, f_number = iso or 0.0, f_number or 1.0
    return iso / f_number**2 if 1 <= iso < 1e7 and 0.1 < f_number < 100 else 0.0
