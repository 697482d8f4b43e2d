"""`report.json` and `report.html` of an output folder: one evaluation, for machines and for people.

Equal inputs give equal files but for the timings; no date, no network, no script.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pockethdr.files import write_bytes
from pockethdr.report.chart import Point, scatter
from pockethdr.report.crops import Crop
from pockethdr.report.devices import DEVICE_HEADERS, device_lines, device_verdict, of_export
from pockethdr.report.row import Row
from pockethdr.report.terminal import change, decibel, figures
from pockethdr.report.thresholds import Thresholds
from pockethdr.report.validate import Evaluation, Progress, evaluate
from pockethdr.runtime.agreement import LEAST_DB
from pockethdr.runtime.phone.rows import DeviceRow

JSON_NAME, HTML_NAME = "report.json", "report.html"


def write_report(
    out: Path,
    brackets: Sequence[Path],
    *,
    threads: int = 2,
    thresholds: Thresholds | None = None,
    command: str = "",
    arm: bool = False,
    ray: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge the artifacts of `out` (see `evaluate`) and write both reports into it.

    Earlier reports are replaced; each file is written whole or not at all.
    """
    evaluation = evaluate(
        out,
        brackets,
        threads=threads,
        thresholds=thresholds,
        crops=True,
        command=command or f"pockethdr report {out.name} --brackets …",
        arm=arm,
        ray=ray,
        progress=progress,
    )
    evaluation.write_json(out / JSON_NAME)
    write_bytes(out / HTML_NAME, html(evaluation).encode(), overwrite=True)
    return evaluation


def html(evaluation: Evaluation) -> str:
    """The page: self-contained, light and dark, without scripts."""
    rows, devices = evaluation.rows, of_export(evaluation.devices, evaluation.manifest)
    return page(
        "report.html",
        verdict=verdict(rows, evaluation.thresholds) + device_verdict(devices),
        state=state([*rows, *devices]),
        manifest=evaluation.manifest,
        headers=HEADERS,
        rows=[(row, figures(row), _details_of(row, evaluation)) for row in rows],
        thresholds=evaluation.thresholds,
        device_bound=LEAST_DB,
        device_headers=DEVICE_HEADERS,
        devices=device_lines(devices, evaluation.manifest),
        stale_devices=len(evaluation.devices) - len(devices),
        chart=against_reference(rows, evaluation.thresholds),
        overviews={each.bracket: each for each in evaluation.overviews},
        brackets=evaluation.brackets,
        left_out=evaluation.left_out,
        crops=_by_bracket(evaluation.crops),
        skipped=[row for row in rows if not row.executed],
        recipe=_flat(evaluation.manifest.recipe),
        host=evaluation.host,
        command=evaluation.command,
    )


def page(template: str, **content: object) -> str:
    """A template of this room, filled; a name that it lacks is an error, a string is no markup."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(decibel=decibel, change=change)
    return environment.get_template(template).render(content)


def _template(name: str) -> str:
    return (files("pockethdr.report") / name).read_text(encoding="utf-8")


def against_reference(rows: Sequence[Row], thresholds: Thresholds) -> str:
    """The <svg> of PSNR-µ against the reference over latency; empty text when no row has both."""
    points = [
        Point(
            row.name,
            row.latency_ms["p50"],
            row.psnr_mu_vs_reference,
            row.precision + ("" if row.passed else " failed"),
        )
        for row in rows
        if row.latency_ms and row.psnr_mu_vs_reference is not None
    ]
    shown = {point.style.split()[0] for point in points}
    gates = {name: bound for name, bound in thresholds.by_precision().items() if name in shown}
    return scatter(points, vertical="PSNR-µ against the reference", gates=gates)


def verdict(rows: Sequence[Row], thresholds: Thresholds, *, models: bool = False) -> str:
    """One sentence: what failed and by how much, or that all passed, and what could not run.

    Args:
        models: also name the network of each artifact that failed.
    """
    failed = [row for row in rows if row.passed is False]
    ran = [row for row in rows if row.executed]
    idle = len(rows) - len(ran)
    tail = f" {idle} could not run on this host." if idle else ""
    if not ran:
        return "No artifact could run on this host: nothing was judged."
    if failed:
        worst = ", ".join(_shortfall(row, thresholds, models=models) for row in failed)
        verb = "fails" if len(failed) == 1 else "fail"
        return f"{len(failed)} of {_artifacts(len(ran))} {verb}: {worst}.{tail}"
    subject = "The one artifact" if len(ran) == 1 else f"All {_artifacts(len(ran))}"
    verb = "passes" if len(ran) == 1 else "pass"
    return f"{subject} that ran here {verb}.{tail}"


HEADERS = (
    ("PSNR-µ vs reference", "dB, worst bracket; passes or fails by it, and by what was lost"),
    ("PSNR-µ", "dB against ground truth, mean over brackets"),
    ("PSNR-ℓ", "dB against ground truth, mean over brackets"),
    ("Δ µ", "dB, artifact minus PyTorch reference; negative is lost"),
    ("Δ ℓ", "dB, artifact minus PyTorch reference; negative is lost"),
    ("ms", "median of one tile on this host's CPU"),
    ("MB", "file size"),
    ("peak MiB", "largest resident memory of the measuring process"),
)


def _artifacts(count: int) -> str:
    return f"{count} artifact" + ("" if count == 1 else "s")


def _shortfall(row: Row, thresholds: Thresholds, *, models: bool) -> str:
    name = f"{row.model} {row.name}" if models else row.name
    if row.psnr_mu_vs_reference is None:
        return f"{name} gave no result"
    if row.foreign:
        return f"{name} holds {len(row.foreign)} scales or weights that were not given to it"
    if row.missing:
        return f"{name} lacks {len(row.missing)} scales or weights that were given to it"
    if row.lacks_integers:
        return f"{name} does less in integers than was planned"
    needed, found = thresholds.of(row.precision), row.psnr_mu_vs_reference
    if found >= needed and thresholds.holds_loss(row):
        return f"{name} disagrees with this host on emulated ARM"
    if found >= needed:
        lost = -min(row.loss_mu_db or 0.0, row.loss_l_db or 0.0)
        return f"{name} loses {lost:.2f}\u00a0dB where {thresholds.loss:g}\u00a0dB are allowed"
    return f"{name} at {found:.1f}\u00a0dB where {needed:g}\u00a0dB are needed"


def state(rows: Sequence[Row | DeviceRow]) -> str:
    verdicts = {row.passed for row in rows}
    return "fail" if False in verdicts else "pass" if True in verdicts else "idle"


def _details_of(row: Row, evaluation: Evaluation) -> list[Any]:
    wanted = row.target, row.precision
    return [d for d in evaluation.details if (d.target, d.precision) == wanted]


def _by_bracket(crops: Sequence[Crop]) -> dict[str, list[Crop]]:
    grouped: dict[str, list[Crop]] = defaultdict(list)
    for crop in crops:
        grouped[crop.bracket].append(crop)
    return dict(grouped)


def _flat(recipe: Mapping[str, Any]) -> dict[str, str]:
    def shown(value: Any) -> str:
        if isinstance(value, Mapping):
            value = [f"{name}: {entry}" for name, entry in value.items()]
        listed = isinstance(value, list | tuple)
        return ", ".join(map(str, value)) or "none" if listed else str(value)

    return {key: shown(value) for key, value in recipe.items()}
