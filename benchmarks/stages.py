"""Wall time and peak memory of each stage of an export.

    python benchmarks/stages.py --brackets ../shared/brackets

Exports `dsan-m32` raw, four targets in FP16 and INT8, into a scratch folder, and prints a Markdown
table. Memory is the resident set of the one process that does it all, sampled every 10 ms, so a
stage also carries what earlier ones left.
"""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import psutil

from pockethdr.brackets.read import find_brackets
from pockethdr.export.pipeline import export_model
from pockethdr.export.recipe import DEFAULT_RECIPE, named_recipe
from pockethdr.export.targets import TARGETS
from pockethdr.models.load import load_model


@dataclass
class Stage:
    """One sentence of the export's progress, when it began, and the peak since."""

    name: str
    start: float
    peak: int = 0


class Meter:
    """Splits a run into stages and samples the resident set until it is stopped."""

    def __init__(self) -> None:
        self.stages = [Stage("loading", time.perf_counter())]
        self._process, self._done = psutil.Process(), threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stage(self, name: str) -> None:
        self.stages.append(Stage(name, time.perf_counter()))

    def said(self, sentence: str) -> None:
        """A stage begins; the brackets it names on the way are part of it."""
        if not sentence.startswith(("using", "calibrated on")):
            self.stage(sentence)

    def stop(self) -> None:
        self.stage("end")
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            stage = self.stages[-1]
            stage.peak = max(stage.peak, self._process.memory_info().rss)


def table(stages: list[Stage]) -> str:
    lines = ["| stage | s | peak MB |", "|---|---|---|"]
    for stage, after in pairwise(stages):
        took = after.start - stage.start
        lines.append(f"| {stage.name} | {took:.1f} | {stage.peak / 2**20:.0f} |")
    whole = stages[-1].start - stages[0].start
    lines.append(f"| **all** | {whole:.1f} | {max(s.peak for s in stages) / 2**20:.0f} |")
    return "\n".join(lines)


@click.command()
@click.option("--brackets", type=click.Path(path_type=Path), required=True)
def main(brackets: Path) -> None:
    """Print the table."""
    meter = Meter()
    loaded = load_model("dsan-m32", domain="raw")
    with tempfile.TemporaryDirectory() as scratch:
        export_model(
            loaded,
            targets=tuple(TARGETS),
            precisions=("fp16", "int8"),
            bracket_folders=find_brackets(brackets, domain="raw"),
            out=Path(scratch) / "out",
            size=(256, 256),
            recipe=named_recipe(DEFAULT_RECIPE),
            progress=meter.said,
        )
        meter.stop()
    click.echo(table(meter.stages))


if __name__ == "__main__":
    main()
