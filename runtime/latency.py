"""How long an artifact takes and how much memory it needs, in a process of its own.

`python -m pockethdr.runtime.latency ARTIFACT` prints one JSON object. Peaks of different artifacts
do not mix, since each is measured in a fresh process.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from pockethdr.errors import Unavailable
from pockethdr.runtime.artifact import target_of
from pockethdr.runtime.child import answer, measured_in_child
from pockethdr.runtime.runner import Frames, Runner, open_runner


@dataclass(frozen=True)
class Latency:
    """Wall time of one run, in milliseconds, over `runs` runs after the warm-up.

    `peak_memory_mb` is the largest resident set of the measuring process in MiB, interpreter and
    libraries included; None when the process did other work too.
    """

    runtime: str
    p50: float
    p90: float
    p99: float
    threads: int
    runs: int
    peak_memory_mb: float | None = None


def measure(
    runner: Runner, frames: Frames, *, threads: int, warmup: int = 3, runs: int = 20
) -> Latency:
    """Time `runner` on `frames` in this process; `threads` is what the runner was opened with."""
    for _ in range(warmup):
        runner.run(frames)
    times = np.array([_milliseconds(runner, frames) for _ in range(runs)])
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    return Latency(runner.name, p50, p90, p99, threads, runs)


def measure_artifact(artifact: Path, *, threads: int, warmup: int = 3, runs: int = 20) -> Latency:
    """Time an artifact on random frames in a fresh process, with its peak memory.

    Raises:
        ArtifactError: the artifact cannot be loaded or run.
        Unavailable: this host lacks its runtime, or only evaluates the program in its stead.
    """
    if target_of(artifact) == "coreml" and sys.platform != "darwin":
        raise Unavailable(
            "latency and memory need Core ML itself; what runs here is an evaluator",
            install="macOS 13 or later",
        )
    options = [f"--threads={threads}", f"--warmup={warmup}", f"--runs={runs}"]
    return Latency(**measured_in_child("pockethdr.runtime.latency", artifact, *options))


def peak_memory_mb() -> float:
    """The largest resident set of this process so far, in MiB.

    `ru_maxrss` survives exec on Linux, so that a child would report its parent's peak; the kernel's
    VmHWM belongs to the program alone.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _milliseconds(runner: Runner, frames: Frames) -> float:
    begin = time.perf_counter()
    runner.run(frames)
    return (time.perf_counter() - begin) * 1e3


def _random_inputs(runner: Runner) -> list[np.ndarray]:
    """Three frames, and what is known of the whole image where the artifact wants it."""
    shapes = [runner.shape] * 3 + ([runner.context] if runner.context else [])
    generator = np.random.default_rng(0)
    return [generator.random(shape, dtype=np.float32) for shape in shapes]


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True)
@click.option("--warmup", default=3, show_default=True)
@click.option("--runs", default=20, show_default=True)
def main(artifact: Path, threads: int, warmup: int, runs: int) -> None:
    """Print latency and peak memory of ARTIFACT as JSON."""

    def found() -> dict[str, Any]:
        runner = open_runner(artifact, target_of(artifact), threads=threads)
        frames = _random_inputs(runner)
        latency = measure(runner, frames, threads=threads, warmup=warmup, runs=runs)
        return {**asdict(latency), "peak_memory_mb": peak_memory_mb()}

    answer(found)


if __name__ == "__main__":
    main()
