"""Judges every artifact of an export against the network it came from, on brackets.

What each artifact made of each bracket comes from `judging.py`; here it becomes a row, and here
artifacts are timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pockethdr.brackets.layout import search, shared_names
from pockethdr.brackets.read import read_bracket
from pockethdr.errors import BracketError, PocketError, Unavailable
from pockethdr.export.imposed import Imposed, imposed_in
from pockethdr.export.manifest import Artifact, Manifest, read_manifest
from pockethdr.files import write_bytes
from pockethdr.models.trust import check_trusted
from pockethdr.report.crops import Crop
from pockethdr.report.host import host
from pockethdr.report.judging import Job, JudgedOn, Verdict, verdicts
from pockethdr.report.on_arm import with_arm
from pockethdr.report.overview import Overview
from pockethdr.report.row import Detail, Row, mean_of
from pockethdr.report.thresholds import Thresholds, judge
from pockethdr.runtime.latency import Latency, measure_artifact
from pockethdr.runtime.phone.rows import DeviceRow, read_rows

#: Called with (what was just done, steps done, steps in all); within a step with no name.
Progress = Callable[[str, float, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Everything a report says; `left_out`: why what else was found is no bracket to judge on."""

    manifest: Manifest
    rows: tuple[Row, ...]
    details: tuple[Detail, ...]
    crops: tuple[Crop, ...]
    overviews: tuple[Overview, ...]
    brackets: tuple[JudgedOn, ...]
    left_out: tuple[str, ...]
    thresholds: Thresholds
    host: dict[str, Any]
    command: str
    devices: tuple[DeviceRow, ...] = ()

    def write_json(self, path: Path) -> None:
        """Write what `report.json` holds, whole or not at all."""
        write_bytes(path, self.to_json().encode(), overwrite=True)

    def to_json(self) -> str:
        """The content of `report.json`."""
        data = {
            "rows": [row.to_json() for row in self.rows],
            "devices": [asdict(row) for row in self.devices],
            "details": [asdict(detail) for detail in self.details],
            "brackets": [asdict(each) for each in self.brackets],
            "left_out": list(self.left_out),
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
    thresholds: Thresholds | None = None,
    json_path: Path | None = None,
    arm: bool = False,
    ray: str | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Judge the artifacts of `out`; see `evaluate`. A failed artifact is a row, not an exception.

    Args:
        json_path: where to write what `report.json` holds.
    """
    found = evaluate(
        out, brackets, threads=threads, thresholds=thresholds, arm=arm, ray=ray, progress=progress
    )
    if json_path is not None:
        found.write_json(json_path)
    return list(found.rows)


def evaluate(
    out: Path,
    brackets: Sequence[Path],
    *,
    threads: int = 2,
    thresholds: Thresholds | None = None,
    crops: bool = False,
    command: str = "",
    arm: bool = False,
    ray: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run and time every artifact of an export.

    Args:
        out: the folder that `pockethdr export` wrote.
        brackets: bracket folders, or folders of them; those of the export's domain are used.
        threads: CPU threads of the reference and of each runtime.
        thresholds: what passes; default `Thresholds()`.
        crops: also picture each bracket, and on it the worst place of each artifact.
        command: what the user typed, for the record.
        arm: also run TFLite artifacts on emulated ARM code, on tiles of the first bracket.
        ray: judge brackets on this Ray cluster, see `judging.verdicts`; the figures are the same,
            and latency is measured here.
        progress: called after each step, and after each tile within one.

    Raises:
        ArtifactError: no manifest, weights that are not those of the export, or a network that only
            the manifest vouches for, see `models.trust`.
        BracketError: there is no bracket of the domain, or one does not load.
        ClusterError: no Ray cluster answers at the address.
    """
    manifest, devices = read_manifest(out), tuple(read_rows(out))
    check_trusted(manifest.spec, out)
    folders, left_out = _folders(brackets, manifest.domain)
    trials = [_Trial(out, artifact, manifest, threads) for artifact in manifest.artifacts]
    steps = _Steps(progress, len(folders) * (1 + len(trials)) + len(trials))
    overviews, judged = list[Overview](), list[JudgedOn]()
    job = Job(out, threads, crops, tuple(shared_names(folders).items()))
    for found in verdicts(job, folders, ray=ray, done=steps.done):
        judged.append(found.on)
        overviews += [found.overview] if found.overview else []
        for trial, verdict in zip(trials, found.verdicts, strict=True):
            trial.add(verdict)
    for trial in trials:
        trial.read_back()
        trial.time()
        steps.done(f"latency of {trial.name}")
    bounds = thresholds or Thresholds()
    rows = tuple(trial.row(bounds) for trial in trials)
    if arm:
        bracket = read_bracket(folders[0], domain=manifest.domain)
        rows = with_arm(rows, out, bracket)
    return Evaluation(
        manifest=manifest,
        rows=rows,
        details=tuple(detail for trial in trials for detail in trial.details),
        crops=tuple(crop for trial in trials for crop in trial.crops),
        overviews=tuple(overviews),
        brackets=tuple(judged),
        left_out=left_out,
        thresholds=bounds,
        host=host(),
        command=command,
        devices=devices,
    )


def _folders(brackets: Sequence[Path], domain: str) -> tuple[list[Path], tuple[str, ...]]:
    """The brackets, and what was left out."""
    found = [search(root, domain=domain) for root in brackets]
    folders = dict.fromkeys(folder for each in found for folder in each.brackets)
    if not folders:
        raise BracketError("no bracket to judge on", expected=f"a folder of {domain} brackets")
    return list(folders), tuple(dict.fromkeys(note for each in found for note in each.notes))


class _Steps:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._count = progress, total, 0

    def done(self, what: str, share: float = 1.0, /) -> None:
        self._count += share == 1
        if self._progress:
            self._progress(what, self._count + (share if share < 1 else 0), self._total)


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
    imposed: Imposed | None = None
    unread: str = ""

    @property
    def name(self) -> str:
        return f"{self.artifact.target} {self.artifact.precision}"

    def add(self, verdict: Verdict) -> None:
        """What was found on the next bracket; after a failure nothing is added any more."""
        if self.failure or self.unavailable:
            return
        self.runtime = verdict.runtime or self.runtime
        self.failure, self.unavailable = verdict.failure, verdict.unavailable
        self.details += [verdict.detail] if verdict.detail else []
        self.crops += [verdict.crop] if verdict.crop else []

    def read_back(self) -> None:
        """Whether the files hold what their converter was given."""
        if not self.details or self.failure:
            return
        try:
            self.imposed = imposed_in(self.out, self.artifact)
        except Unavailable as missing:
            self.unread = f"scales not read back: {missing.reason}; {missing.install}"

    def time(self) -> None:
        """Latency and peak memory, in a process of its own."""
        if not self.details or self.failure:
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
            foreign=self.imposed.foreign if self.imposed else None,
            missing=self.imposed.missing if self.imposed else None,
            planned_int8_mac_share=checks.get("planned_int8_mac_share"),
        )
        reason = _joined(unjudged.reason, *_amiss(unjudged))
        return replace(unjudged, reason=reason, passed=judge(unjudged, thresholds))

    def _path(self) -> Path:
        return self.out / str(self.artifact.file)

    def _reason(self) -> str:
        notes = [self.unavailable, self.failure, self.untimed, self.unread]
        if self.details and not any(detail.psnr_mu is not None for detail in self.details):
            notes.append("no ground truth")
        if self.details and all(detail.identical for detail in self.details):
            notes.append("identical to the reference (written as 200 dB)")
        if self.details:
            notes.append(_of_tiles(self.manifest))
        if self.artifact.checks.get("int8_mac_share") == 0:
            notes.append(f"no multiplication on integers: recipe `{self.manifest.recipe['name']}`")
        return _joined(*notes)


def _of_tiles(manifest: Manifest) -> str:
    """In what tiles may differ from the whole image."""
    if manifest.halo is None:
        return "judged tile by tile: this network depends on the whole image, and differs untiled"
    return manifest.context.caveat if manifest.context else ""


def _amiss(row: Row) -> list[str]:
    """In what a row is not as imposed."""
    lists = {"not as imposed": row.foreign, "missing": row.missing}
    notes = [
        f"{what}: {found[0]}{f' and {len(found) - 1} more' * (len(found) > 1)}"
        for what, found in lists.items()
        if found
    ]
    if row.lacks_integers:
        share, planned = row.int8_mac_share or 0.0, row.planned_int8_mac_share or 0.0
        notes.append(f"{share:.1%} of the multiplications integer where {planned:.1%} were planned")
    return notes


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _percentiles(latency: Latency | None) -> dict[str, float] | None:
    return {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99} if latency else None
