"""How fast training is, and what share of a step its batches cost.

    python benchmarks/throughput.py --cache hdr_images

For each network: milliseconds of a step (forward, backward, AdamW, average), of making its batch,
and the share of the batch in both, in CPU time of one thread each, which other load on the host
changes little; then steps a second as trained, with the batches made by another process.
"""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import click
import cv2
import torch
from results import FOUR

from pockethdr.brackets.bracket import RAW
from pockethdr.brackets.sources import TRAIN, scenes
from pockethdr.models.patches import SimulatedPatches
from pockethdr.models.train import TrainConfig, train

PATCH, BATCH = 128, 8


def making_ms(cache: Path, steps: int) -> float:
    """CPU milliseconds of a batch, patches met again included."""
    patches = SimulatedPatches(RAW, scenes(cache, TRAIN), PATCH, BATCH, 0)
    for step in range(steps):  # until as many patches are met again as in a long run
        patches.get(step)
    begin = time.process_time()
    for step in range(steps, 2 * steps):
        patches.get(step)
    return 1000 * (time.process_time() - begin) / steps


def steps_per_second(name: str, cache: Path, steps: int) -> tuple[float, float]:
    """(steps a second, CPU milliseconds a step) of a real run, its start left out."""
    marks: list[tuple[float, float]] = []

    def note(line: str) -> None:
        if line.startswith("step") and "loss" in line:
            marks.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(name, RAW, cache, Path(folder) / "run", steps=steps, late=0.0)
        train(config, log=note)
    walls, works = zip(*marks, strict=True)
    wall = median(b - a for a, b in pairwise(walls))
    work = median(b - a for a, b in pairwise(works))
    return 100 / wall, 1000 * work / 100


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=400, show_default=True, help="Of each network.")
def main(cache: Path, steps: int) -> None:
    """Measure and print a table."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # as where batches are made in training
    making = making_ms(cache, steps)
    click.echo(
        "| | steps/s | step, ms | its batch, ms | share of the batch |\n|---|---|---|---|---|"
    )
    for name in FOUR:
        rate, work = steps_per_second(name, cache, steps)
        share = making / (making + work)
        click.echo(f"| {name} | {rate:.1f} | {work:.0f} | {making:.0f} | {share:.0%} |")


if __name__ == "__main__":
    main()
