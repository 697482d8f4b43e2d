"""What INT8 loses: exported artifacts against their float network, on brackets none was tuned on.

    python benchmarks/int8.py out/m32 --cache cache --json docs/int8.json

Takes folders of `pockethdr export` for raw brackets at 256x256, runs each artifact in its
own runtime on the test set (`brackets.testset`), and writes a row for each. With `--latency` the
artifacts are timed too, which only means something on a quiet host.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.metrics import psnr_l, psnr_mu
from pockethdr.brackets.sources import TEST, scenes
from pockethdr.brackets.testset import test_brackets
from pockethdr.errors import Unavailable
from pockethdr.export.manifest import Artifact, Manifest, read_manifest
from pockethdr.files import write_bytes
from pockethdr.report.reference import Reference, tiled
from pockethdr.runtime.artifact import Deployed
from pockethdr.runtime.context import context_of
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.latency import measure_artifact
from pockethdr.runtime.runner import Runner, open_runner

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Export:
    """A folder of `pockethdr export`, judged on brackets; the reference runs when it is needed."""

    out: Path
    brackets: list[Bracket]

    @cached_property
    def manifest(self) -> Manifest:
        return read_manifest(self.out)

    @cached_property
    def wanted(self) -> list[Array]:
        """What the float network makes of each bracket."""
        reference = Reference(self.out, self.manifest, threads=1)
        return [np.clip(reference.run(bracket)[0], 0, 1) for bracket in self.brackets]

    def outputs(self, path: Path, artifact: Artifact) -> list[Array]:
        """What the file at `path` makes of each bracket, run as `artifact` is."""
        deployed = Deployed(self.out / str(artifact.file), self.manifest, artifact)
        with closing(open_runner(path, artifact.target, layout=artifact.layout, threads=1)) as run:
            return [_output(run, deployed, bracket) for bracket in self.brackets]

    def own_outputs(self, artifact: Artifact) -> list[Array]:
        """`outputs` of one of the export's own artifacts, run once."""
        file = str(artifact.file)
        if file not in self._own:
            self._own[file] = self.outputs(self.out / file, artifact)
        return self._own[file]

    @cached_property
    def _own(self) -> dict[str, list[Array]]:
        return {}


def row_of(export: Export, artifact: Artifact, *, latency: bool) -> dict[str, Any]:
    """The row of an artifact; one that cannot run here is a row that says why."""
    manifest, is_tuned = export.manifest, artifact.precision == "int8"
    row = {
        "model": manifest.model,
        "target": artifact.target,
        "precision": artifact.precision,
        "ours": True,
        "tool": "pockethdr" + f", recipe {manifest.recipe['name']}" * is_tuned,
        "tuned": is_tuned and manifest.tuned is not None,
        "brackets": len(export.brackets),
        "int8_mac_share": artifact.checks.get("int8_mac_share"),
    }
    if artifact.file is None:
        return row | {"skipped": artifact.skipped}
    try:
        found = export.own_outputs(artifact)
        return (
            row
            | losses(found, export)
            | {"latency_ms": latency_of(export.out / artifact.file) if latency else None}
            | {"agreement_db": _agreement(found, export, artifact)}
        )
    except Unavailable as missing:
        return row | {"skipped": f"{missing.reason}; {missing.install}"}


def losses(found: list[Array], export: Export) -> dict[str, Any]:
    """What the outputs `found` lose against those of the float network."""
    wanted, truths = export.wanted, [b.ground_truth for b in export.brackets]
    lost = {
        name: [
            metric(ours, truth) - metric(theirs, truth)
            for ours, theirs, truth in zip(found, wanted, truths, strict=True)
        ]
        for name, metric in (("mu", psnr_mu), ("l", psnr_l))
    }
    agreement = [psnr_mu(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)]
    return {
        **{f"loss_{name}_db": round(float(np.mean(all_)), 3) for name, all_ in lost.items()},
        **{f"worst_{name}_db": round(float(np.min(all_)), 3) for name, all_ in lost.items()},
        "psnr_mu_vs_reference": round(float(np.mean(agreement)), 2),
    }


def latency_of(path: Path) -> float | None:
    """Median milliseconds of a file on one thread; None where nothing on this host runs it."""
    try:
        return measure_artifact(path, threads=1).p50
    except Unavailable:
        return None


def _output(runner: Runner, deployed: Deployed, bracket: Bracket) -> Array:
    context = context_of(deployed, Feed(bracket), threads=1)
    return tiled(runner.run, bracket.inputs(), deployed.manifest, context=context)[0]


def _agreement(
    found: list[Array], export: Export, artifact: Artifact
) -> dict[str, dict[str, float]]:
    """Other target → PSNR-µ between its artifact and this one, of one precision, over all brackets:
    their mean and the least of them."""
    others = [
        other
        for other in export.manifest.artifacts
        if other.precision == artifact.precision and other.target != artifact.target and other.file
    ]
    agreed = {}
    for other in others:
        with suppress(Unavailable):
            pairs = zip(found, export.own_outputs(other), strict=True)
            near = [psnr_mu(mine, its) for mine, its in pairs]
            agreed[other.target] = {
                "mean": round(float(np.mean(near)), 2),
                "least": round(min(near), 2),
            }
    return agreed


def held_out(cache: Path, count: int) -> list[Bracket]:
    """At most `count` brackets of the test set, evenly spread over it."""
    every = list(test_brackets(scenes(cache, TEST)))
    return [every[i] for i in np.linspace(0, len(every) - 1, min(count, len(every))).astype(int)]


@click.command()
@click.argument("outs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--cache", required=True, type=click.Path(path_type=Path))
@click.option("--count", default=24, show_default=True, help="At most this many brackets.")
@click.option("--latency", is_flag=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    outs: tuple[Path, ...], cache: Path, count: int, latency: bool, json_file: Path | None
) -> None:
    """Print the table; loss is artifact minus float network, both against ground truth."""
    brackets = held_out(cache, count)
    rows = []
    for out in track(outs, console=Console(stderr=True), transient=True):
        export = Export(out, brackets)
        rows += [
            row_of(export, artifact, latency=latency) for artifact in export.manifest.artifacts
        ]
    click.echo(
        "| model | artifact | recipe | µ, dB | ℓ, dB | worst µ | worst ℓ | agreement | INT8 |"
    )
    click.echo("|---" * 9 + "|")
    for row in rows:
        click.echo(_line(row))
    if json_file is not None:
        text = json.dumps({"rows": rows}, indent=1) + "\n"
        write_bytes(json_file, text.encode(), overwrite=True)


def _line(row: dict[str, Any]) -> str:
    start = f"| {row['model']} | {row['target']} {row['precision']} | {row['tool'].split()[-1]} |"
    if "skipped" in row:
        return f"{start} skipped: {row['skipped']} | | | | | |"
    figures = (row[f"{kind}_{name}_db"] for kind in ("loss", "worst") for name in ("mu", "l"))
    share = "" if row["int8_mac_share"] is None else f"{row['int8_mac_share']:.0%}"
    shown = " | ".join(f"{value:+.2f}" for value in figures)
    return f"{start} {shown} | {row['psnr_mu_vs_reference']:.1f} | {share} |"


if __name__ == "__main__":
    main()
