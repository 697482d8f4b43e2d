"""Judges every artifact of an export against the network it came from, on brackets.

The reference is computed once a bracket and shared by all artifacts. At any time one bracket, the
reference's output for it and one artifact's output are held, whatever their number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.metrics import psnr_l, psnr_mu, ssim_l, ssim_mu
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.errors import BracketError, PocketError, Unavailable
from pockethdr.export.imposed import imposed_in
from pockethdr.export.manifest import Artifact, Manifest, read_manifest, write_bytes
from pockethdr.report.crops import Crop, worst_crop
from pockethdr.report.host import host
from pockethdr.report.on_arm import with_arm
from pockethdr.report.reference import Reference, tiled
from pockethdr.report.row import Detail, Row, finite_db, mean_of
from pockethdr.report.thresholds import Thresholds, judge
from pockethdr.runtime.artifact import Deployed
from pockethdr.runtime.context import context_of
from pockethdr.runtime.device import DeviceRow, read_rows
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.latency import Latency, measure_artifact
from pockethdr.runtime.runner import Array, open_runner

#: Called with (what was just done, steps done, steps in all).
Progress = Callable[[str, int, int], None]
TRUTH_METRICS = {"psnr_mu": psnr_mu, "psnr_l": psnr_l, "ssim_mu": ssim_mu, "ssim_l": ssim_l}


@dataclass(frozen=True)
class Evaluation:
    """Everything a report says."""

    manifest: Manifest
    rows: tuple[Row, ...]
    details: tuple[Detail, ...]
    crops: tuple[Crop, ...]
    thresholds: Thresholds
    host: dict[str, Any]
    command: str
    devices: tuple[DeviceRow, ...] = ()

    def to_json(self) -> str:
        """The content of `report.json`."""
        data = {
            "rows": [row.to_json() for row in self.rows],
            "devices": [asdict(row) for row in self.devices],
            "details": [asdict(detail) for detail in self.details],
            "host": self.host,
            "manifest": asdict(self.manifest),
            "thresholds": self.thresholds.to_json(),
            "command": self.command,
        }
        return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def validate(
    out: Path,
    brackets: Sequence[Path],
    *,
    threads: int = 2,
    json_path: Path | None = None,
    arm: bool = False,
    progress: Progress | None = None,
) -> list[Row]:
    """Judge the artifacts of `out`; see `evaluate`. A failed artifact is a row, not an exception.

    Args:
        json_path: where to write what `report.json` holds.
    """
    evaluation = evaluate(out, brackets, threads=threads, arm=arm, progress=progress)
    if json_path is not None:
        write_bytes(json_path, evaluation.to_json().encode(), overwrite=True)
    return list(evaluation.rows)


def evaluate(
    out: Path,
    brackets: Sequence[Path],
    *,
    threads: int = 2,
    thresholds: Thresholds | None = None,
    crops: bool = False,
    command: str = "",
    arm: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Run and time every artifact of an export.

    Args:
        out: the folder that `pockethdr export` wrote.
        brackets: bracket folders, or folders of them; those of the export's domain are used.
        threads: CPU threads of the reference and of each runtime.
        thresholds: what passes; default `Thresholds()`.
        crops: also picture the worst place of each artifact on each bracket.
        command: what the user typed, for the record.
        arm: also run TFLite artifacts on emulated ARM code, on tiles of the first bracket.
        progress: called after each step.

    Raises:
        ArtifactError: no manifest, or weights that are not those of the export.
        BracketError: there is no bracket of the domain, or one does not load.
    """
    manifest, devices = read_manifest(out), tuple(read_rows(out))
    folders = _folders(brackets, manifest.domain)
    trials = [_Trial(out, artifact, manifest, threads) for artifact in manifest.artifacts]
    steps = _Steps(progress, len(folders) * (1 + len(trials)) + len(trials))
    reference = Reference(out, manifest, threads=threads)
    for folder in folders:
        scene = _Scene(read_bracket(folder, domain=manifest.domain), reference)
        steps.done(f"reference on {scene.name}")
        for trial in trials:
            trial.compare(scene, crops=crops)
            steps.done(f"{trial.name} on {scene.name}")
    for trial in trials:
        trial.read_back()
        trial.time()
        steps.done(f"latency of {trial.name}")
    bounds = thresholds or Thresholds()
    rows = tuple(trial.row(bounds) for trial in trials)
    if arm:
        bracket = read_bracket(folders[0], domain=manifest.domain)
        rows = with_arm(rows, out, manifest, bracket)
    return Evaluation(
        manifest,
        rows,
        tuple(detail for trial in trials for detail in trial.details),
        tuple(crop for trial in trials for crop in trial.crops),
        bounds,
        host(),
        command,
        devices,
    )


def _folders(brackets: Sequence[Path], domain: str) -> list[Path]:
    found = [folder for root in brackets for folder in find_brackets(root, domain=domain)]
    if not found:
        raise BracketError("no bracket to judge on", expected=f"a folder of {domain} brackets")
    return list(dict.fromkeys(found))


class _Steps:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._count = progress, total, 0

    def done(self, what: str) -> None:
        self._count += 1
        if self._progress:
            self._progress(what, self._count, self._total)


class _Scene:
    """A bracket, the reference's output on it, and what that scores against the ground truth."""

    def __init__(self, bracket: Bracket, reference: Reference) -> None:
        self.bracket, self.name = bracket, bracket.name
        self.reference = np.clip(reference.run(bracket)[0], 0.0, 1.0)
        if not np.isfinite(self.reference).all():
            raise PocketError(
                f"the PyTorch reference returns NaN on {bracket.name}",
                fix="nothing can be judged against it: mend the network or its weights",
            )
        self.reference_scores = self.scores(self.reference)

    def scores(self, output: Array) -> dict[str, float]:
        """The metrics against the ground truth; empty without one."""
        truth = self.bracket.ground_truth
        if truth is None:
            return {}
        return {name: finite_db(metric(output, truth)) for name, metric in TRUTH_METRICS.items()}


@dataclass
class _Trial:
    """One artifact on its way to a row."""

    out: Path
    artifact: Artifact
    manifest: Manifest
    threads: int
    runtime: str | None = None
    failure: str = ""
    unavailable: str = ""
    details: list[Detail] = field(default_factory=list)
    crops: list[Crop] = field(default_factory=list)
    latency: Latency | None = None
    untimed: str = ""
    foreign: tuple[str, ...] | None = None
    unread: str = ""

    def __post_init__(self) -> None:
        if self.artifact.file is None:
            self.unavailable = self.artifact.skipped or "not built"

    @property
    def name(self) -> str:
        return f"{self.artifact.target} {self.artifact.precision}"

    def compare(self, scene: _Scene, *, crops: bool) -> None:
        """Run on a scene, unless this artifact failed before."""
        if self.failure or self.unavailable:
            return
        output = self._output(scene.bracket)
        if output is None:
            return
        self.failure = _flaw(output, scene.reference)
        if self.failure:
            self.failure += f" on {scene.name}"
            return
        self.details.append(self._detail(scene, output))
        if crops:
            names = self.artifact.target, self.artifact.precision
            self.crops.append(worst_crop(output, scene.reference, scene.bracket, *names))

    def read_back(self) -> None:
        """Whether the file holds what its converter was given."""
        if not self.details or self.failure:
            return
        try:
            found = imposed_in(self.out, self.artifact)
            self.foreign = None if found is None else found.foreign
        except Unavailable as missing:
            self.unread = f"scales not read back: {missing.reason}; {missing.install}"

    def time(self) -> None:
        """Latency and peak memory, in a process of its own."""
        if not self.details or self.failure:
            return
        if "MIL" in (self.runtime or ""):
            self.untimed = "latency and memory need Core ML itself (macOS); an evaluator ran here"
            return
        try:
            self.latency = measure_artifact(self._path(), threads=self.threads)
        except PocketError as error:
            self.untimed = f"latency not measured: {error.what}"

    def row(self, thresholds: Thresholds) -> Row:
        """The record, judged."""
        checks, worst = self.artifact.checks, [d.psnr_mu_vs_reference for d in self.details]
        unjudged = Row(
            model=self.manifest.model,
            domain=self.manifest.domain,
            target=self.artifact.target,
            precision=self.artifact.precision,
            artifact=self.artifact.file,
            sha256=self.artifact.sha256,
            size_bytes=self.artifact.size_bytes,
            runtime=self.runtime,
            executed=not self.unavailable,
            reason=self._reason(),
            brackets=tuple(detail.bracket for detail in self.details),
            psnr_mu_vs_reference=None if self.failure or not worst else min(worst),
            psnr_mu=mean_of(self.details, "psnr_mu"),
            psnr_l=mean_of(self.details, "psnr_l"),
            ssim_mu=mean_of(self.details, "ssim_mu"),
            ssim_l=mean_of(self.details, "ssim_l"),
            loss_mu_db=mean_of(self.details, "loss_mu_db"),
            loss_l_db=mean_of(self.details, "loss_l_db"),
            passed=None,
            latency_ms=_percentiles(self.latency),
            threads=self.threads,
            peak_memory_mb=self.latency.peak_memory_mb if self.latency else None,
            int8_mac_share=checks.get("int8_mac_share"),
            undelegated_ops=checks.get("undelegated"),
            foreign=self.foreign,
        )
        return replace(unjudged, passed=judge(unjudged, thresholds))

    def _path(self) -> Path:
        return self.out / str(self.artifact.file)

    def _output(self, bracket: Bracket) -> Array | None:
        """The artifact's C×H×W output, or None with the reason noted."""
        try:
            runner = open_runner(self._path(), self.artifact.target, threads=self.threads)
            self.runtime = runner.name
            try:
                found = Deployed(self._path(), self.manifest, self.artifact)
                context = context_of(found, Feed(bracket), threads=self.threads)
                return tiled(runner.run, bracket.inputs(), self.manifest, context=context)[0]
            finally:
                runner.close()
        except Unavailable as error:
            self.unavailable = f"{error.reason}; {error.install}"
        except Exception as error:  # native runtimes share no narrower base
            self.failure = f"does not run: {error}"
        return None

    def _detail(self, scene: _Scene, output: Array) -> Detail:
        ours, theirs = scene.scores(output), scene.reference_scores
        return Detail(
            bracket=scene.name,
            target=self.artifact.target,
            precision=self.artifact.precision,
            psnr_mu_vs_reference=finite_db(psnr_mu(output, scene.reference)),
            psnr_l_vs_reference=finite_db(psnr_l(output, scene.reference)),
            **ours,
            **{f"reference_{name}": score for name, score in theirs.items()},
            loss_mu_db=ours["psnr_mu"] - theirs["psnr_mu"] if ours else None,
            loss_l_db=ours["psnr_l"] - theirs["psnr_l"] if ours else None,
        )

    def _reason(self) -> str:
        notes = [self.unavailable, self.failure, self.untimed, self.unread]
        if self.foreign:
            more = f" and {len(self.foreign) - 1} more" * (len(self.foreign) > 1)
            notes.append(f"not as imposed: {self.foreign[0]}{more}")
        if self.details and not any(detail.psnr_mu is not None for detail in self.details):
            notes.append("no ground truth")
        if self.details and all(detail.identical for detail in self.details):
            notes.append("identical to the reference (written as 200 dB)")
        return "; ".join(note for note in notes if note)


def _flaw(output: Array, reference: Array) -> str:
    if output.shape != reference.shape:
        return f"returns {output.shape} where the reference returns {reference.shape}"
    return "" if np.isfinite(output).all() else "returns NaN or infinite values"


def _percentiles(latency: Latency | None) -> dict[str, float] | None:
    return {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99} if latency else None
