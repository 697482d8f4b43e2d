"""One place of a bracket as each network shows it, beside what went in and what is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.metrics import psnr_mu
from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.export.manifest import Artifact, Manifest, read_manifest
from pockethdr.report.crops import SIDE, pictures, place_of_largest_error, png
from pockethdr.runtime.fuse import fuse
from pockethdr.runtime.runner import Array

#: Of the artifacts that run here, the one a phone would run is shown.
PREFERRED = (("tflite", "int8"), ("tflite", "fp16"), ("onnx", "int8"), ("onnx", "fp16"))


@dataclass(frozen=True)
class Panel:
    """A titled PNG data URI; `psnr_mu` of the whole image against ground truth, in dB."""

    title: str
    picture: str
    psnr_mu: float | None


@dataclass(frozen=True)
class Strip:
    """The panels of one bracket, all at the place where the classical merge errs most."""

    bracket: str
    top: int
    left: int
    panels: tuple[Panel, ...]


def strip(bracket: Bracket, outs: Sequence[Path]) -> Strip:
    """Reference frame, weighted merge, one artifact of each export, and the ground truth.

    Args:
        bracket: with ground truth, or the place is where the merge differs from the network.
        outs: export folders of the bracket's domain.
    """
    merge, truth = weighted_merge(bracket), bracket.ground_truth
    images = [("reference frame", reference_frame(bracket)), ("merge", merge)]
    images += _fused(outs, bracket)
    target = images[-1][1] if truth is None else truth
    top, left = place_of_largest_error(merge, target)
    if truth is not None:
        images.append(("ground truth", truth))
    window = (..., slice(top, top + SIDE), slice(left, left + SIDE))
    # The target first: its brightness decides how all are shown.
    clips = [1.0, 1 / bracket.ratios[1], *(1.0,) * (len(images) - 1)]
    shown = pictures([target[window], *(i[window] for _, i in images)], bracket, clips)[1:]
    return Strip(
        bracket.name,
        top,
        left,
        tuple(
            Panel(title, png(picture), None if image is truth else _score(image, truth))
            for (title, image), picture in zip(images, shown, strict=True)
        ),
    )


def _score(image: Array, truth: Array | None) -> float | None:
    return None if truth is None else psnr_mu(image, truth)


def reference_frame(bracket: Bracket) -> Array:
    """The mid frame alone, in the output's scale."""
    aligned = bracket.inputs()[1]
    return np.asarray(aligned[0, aligned.shape[1] // 2 :], np.float32)


def _fused(outs: Sequence[Path], bracket: Bracket) -> list[tuple[str, Array]]:
    """What the preferred artifact of each export makes of the bracket, with its title; nothing of
    an export of which none runs."""
    manifests = [read_manifest(out) for out in outs]
    exports = Counter(manifest.model for manifest in manifests)
    found = []
    for out, manifest in zip(outs, manifests, strict=True):
        name = manifest.model if exports[manifest.model] == 1 else f"{manifest.model} in {out}"
        for artifact in _by_preference(manifest):
            try:
                image = fuse(out / str(artifact.file), bracket)
            except (Unavailable, ArtifactError):
                continue
            title = f"{name}, {artifact.target} {artifact.precision}"
            found.append((title, np.clip(image.pixels, 0.0, 1.0)))
            break
    return found


def _by_preference(manifest: Manifest) -> list[Artifact]:
    built = [artifact for artifact in manifest.artifacts if artifact.file is not None]
    return sorted(built, key=lambda artifact: _rank(artifact.target, artifact.precision))


def _rank(target: str, precision: str) -> int:
    names = (target, precision)
    return PREFERRED.index(names) if names in PREFERRED else len(PREFERRED)
