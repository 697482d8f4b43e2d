"""One bracket judged: the reference on it, and every artifact beside the reference.

What is found on one bracket depends on no other, so that brackets can be judged anywhere and in any
order; `validate.py` puts them together. At any time one bracket, the reference's output for it and
one artifact's output are held, whatever their number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.metrics import psnr_l, psnr_mu, ssim_l, ssim_mu
from pockethdr.brackets.read import read_bracket
from pockethdr.cluster import on_ray
from pockethdr.errors import BracketError, PocketError, Unavailable
from pockethdr.export.manifest import Artifact, read_manifest
from pockethdr.report.crops import Crop, worst_crop
from pockethdr.report.overview import Overview, overview
from pockethdr.report.reference import Reference, tiled
from pockethdr.report.row import Detail
from pockethdr.runtime.agreement import finite_db
from pockethdr.runtime.artifact import Deployed
from pockethdr.runtime.context import context_of
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.runner import Array, Runner, open_runner
from pockethdr.runtime.tiling import Progress

TRUTH_METRICS = {"psnr_mu": psnr_mu, "psnr_l": psnr_l, "ssim_mu": ssim_mu, "ssim_l": ssim_l}


@dataclass(frozen=True)
class Job:
    """What is judged: all artifacts of the export in `out`, each on `threads` CPU threads.

    With `crops` there are pictures too. `names` are those of brackets that others share.
    """

    out: Path
    threads: int
    crops: bool
    names: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What one artifact made of one bracket.

    Attributes:
        runtime: that it was opened in; None where none would.
        detail: its figures; None with the reason in `failure` or `unavailable`.
        crop: of its worst place, when asked for.
    """

    runtime: str | None = None
    detail: Detail | None = None
    crop: Crop | None = None
    failure: str = ""
    unavailable: str = ""


@dataclass(frozen=True)
class JudgedOn:
    """What was taken of a bracket, as `Bracket` says it."""

    bracket: str
    selection: str
    exposure_source: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class JudgedBracket:
    """One bracket: a verdict for each artifact, and how it looks, when pictures are asked for."""

    on: JudgedOn
    verdicts: list[Verdict]
    overview: Overview | None


class Done(Protocol):
    """Called after each run of the reference or of an artifact; within one, with no name and the
    share of its tiles that are done, below 1."""

    def __call__(self, what: str, share: float = 1.0, /) -> None: ...


def verdicts(
    job: Job, folders: Sequence[Path], *, ray: str | None, done: Done
) -> Iterator[JudgedBracket]:
    """What is found on each bracket, in the order of `folders`.

    Args:
        ray: the address of a Ray cluster whose workers do it, see `pockethdr.cluster`; the same is
            found. They must be able to read `job.out` and the brackets.
        done: see `Done`; workers tell it of whole runs alone.

    Raises:
        PocketError: a bracket, the export or its reference cannot be used.
    """
    if ray is None:
        judge = Judge(job)
        yield from (judge(folder, done) for folder in folders)
        return
    found = {}
    judged = on_ray(_judged_by_worker, job, folders, address=ray, threads=job.threads)
    for folder, (steps, of_bracket) in judged:
        found[folder] = of_bracket
        for step in steps:
            done(step)
    yield from (found[folder] for folder in folders)


def _judged_by_worker(job: Job, folder: Path) -> tuple[list[str], JudgedBracket]:
    steps: list[str] = []

    def done(what: str, share: float = 1.0, /) -> None:
        if what:
            steps.append(what)

    return steps, _judge(job)(folder, done)


@lru_cache(maxsize=1)
def _judge(job: Job) -> Judge:
    """Kept for the next bracket that this worker gets."""
    return Judge(job)


class Judge:
    """The artifacts of one export, and the network that they came from."""

    def __init__(self, job: Job) -> None:
        self.job, self.manifest = job, read_manifest(job.out)
        self.reference = Reference(job.out, self.manifest, threads=job.threads)

    def __call__(self, folder: Path, done: Done) -> JudgedBracket:
        """Every artifact on one bracket."""
        bracket, progress = read_bracket(folder, domain=self.manifest.domain), _tile_by_tile(done)
        bracket = replace(bracket, name=dict(self.job.names).get(folder, bracket.name))
        scene = _Scene(bracket, self.reference, progress)
        done(f"reference on {scene.name}")
        found = []
        for artifact in self.manifest.artifacts:
            found.append(self._verdict(artifact, scene, progress))
            done(f"{artifact.target} {artifact.precision} on {scene.name}")
        crops = [verdict.crop for verdict in found if verdict.crop]
        seen = overview(bracket, scene.reference, crops) if self.job.crops else None
        on = JudgedOn(
            bracket.name, bracket.selection, bracket.exposure_source, tuple(bracket.notes)
        )
        return JudgedBracket(on, found, seen)

    def _verdict(self, artifact: Artifact, scene: _Scene, progress: Progress) -> Verdict:
        if artifact.file is None:
            return Verdict(unavailable=artifact.skipped or "not built")
        runtime: str | None = None
        try:
            path = self.job.out / artifact.file
            with closing(open_runner(path, artifact.target, threads=self.job.threads)) as runner:
                runtime = runner.name
                deployed = Deployed(path, self.manifest, artifact)
                output = self._output(runner, deployed, scene, progress)
        except Unavailable as error:
            return Verdict(runtime, unavailable=f"{error.reason}; {error.install}")
        except Exception as error:  # native runtimes share no narrower base
            return Verdict(runtime, failure=f"does not run: {error}")
        flaw = _flaw(output, scene.reference)
        if flaw:
            return Verdict(runtime, failure=f"{flaw} on {scene.name}")
        names, crop = (artifact.target, artifact.precision), None
        if self.job.crops:
            crop = worst_crop(output, scene.reference, scene.bracket, *names)
        return Verdict(runtime, scene.detail(output, *names), crop)

    def _output(
        self, runner: Runner, deployed: Deployed, scene: _Scene, progress: Progress
    ) -> Array:
        """C×H×W, of whole frames."""
        context = context_of(deployed, Feed(scene.bracket), threads=self.job.threads)
        return tiled(runner.run, scene.bracket.inputs(), self.manifest, progress, context)[0]


def _tile_by_tile(done: Done) -> Progress:
    """Tells `done` of every tile but the last, with which the run is done."""
    return lambda tile, tiles: done("", tile / tiles) if tile < tiles else None


class _Scene:
    """A bracket, the reference's output on it, and what that scores against the ground truth."""

    def __init__(self, bracket: Bracket, reference: Reference, progress: Progress) -> None:
        self.bracket, self.name, self.sha256 = bracket, bracket.name, _sha256(bracket)
        output = reference.run(bracket, progress)[0]
        if not np.isfinite(output).all():
            raise PocketError(
                f"the PyTorch reference returns NaN or infinity on {bracket.name}",
                fix="nothing can be judged against it: mend the network or its weights",
            )
        self.reference = np.clip(output, 0.0, 1.0)
        self.reference_scores = self._scores(self.reference)

    def detail(self, output: Array, target: str, precision: str) -> Detail:
        """The figures of an artifact's C×H×W `output`."""
        ours, theirs = self._scores(output), self.reference_scores
        return Detail(
            bracket=self.name,
            target=target,
            precision=precision,
            psnr_mu_vs_reference=finite_db(psnr_mu(output, self.reference)),
            psnr_l_vs_reference=finite_db(psnr_l(output, self.reference)),
            **ours,
            **{f"reference_{name}": score for name, score in theirs.items()},
            loss_mu_db=ours["psnr_mu"] - theirs["psnr_mu"] if ours else None,
            loss_l_db=ours["psnr_l"] - theirs["psnr_l"] if ours else None,
            bracket_sha256=self.sha256,
        )

    def _scores(self, output: Array) -> dict[str, float]:
        """The metrics against the ground truth; empty without one."""
        truth = self.bracket.ground_truth
        if truth is None:
            return {}
        try:
            return {name: finite_db(score(output, truth)) for name, score in TRUTH_METRICS.items()}
        except BracketError as error:
            what = f"{self.name}: {error.what}"
            raise BracketError(what, expected=error.expected, fix=error.fix) from error


def _sha256(bracket: Bracket) -> str:
    """Of the frames as the network takes them, ratios and all, and of the ground truth."""
    digest, truth = hashlib.sha256(), bracket.ground_truth
    for array in (*bracket.inputs(), *([] if truth is None else [truth])):
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()


def _flaw(output: Array, reference: Array) -> str:
    if output.shape != reference.shape:
        return f"returns {output.shape} where the reference returns {reference.shape}"
    return "" if np.isfinite(output).all() else "returns NaN or infinite values"
