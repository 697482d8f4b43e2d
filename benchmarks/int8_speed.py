"""How many times faster INT8 is than FP32, each in its runtime: a part of `int8_tools.py`."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from pockethdr.errors import Unavailable
from pockethdr.export.manifest import Artifact, read_manifest
from pockethdr.runtime.latency import measure_artifact

THREADS, ROUNDS = (1, 2), 3


def speeds(out: Path) -> list[dict[str, Any]]:
    """A row for each target and number of threads of an export that has FP32 and INT8.

    The two are timed in turn, each in a process of its own, and the median of the medians counts.
    """
    manifest = read_manifest(out)
    built = [a for a in manifest.artifacts if a.file]
    pairs = [
        (fp32, int8)
        for fp32 in built
        for int8 in built
        if (fp32.target, fp32.precision, int8.precision) == (int8.target, "fp32", "int8")
    ]
    found = []
    for threads in THREADS:
        for pair in pairs:
            try:
                fp32, int8 = _timed(out, pair, threads)
            except Unavailable:  # the table of losses says why
                continue
            row = {"model": manifest.model, "target": pair[0].target, "threads": threads}
            found.append(row | {"fp32_ms": fp32, "int8_ms": int8, "times": round(fp32 / int8, 2)})
    return found


def _timed(out: Path, pair: tuple[Artifact, Artifact], threads: int) -> tuple[float, ...]:
    rounds = [
        [measure_artifact(out / str(a.file), threads=threads).p50 for a in pair]
        for _ in range(ROUNDS)
    ]
    return tuple(round(statistics.median(times), 2) for times in zip(*rounds, strict=True))


def speed_table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| network | target | threads | FP32, ms | INT8, ms | times |", "|---" * 6 + "|"]
    for row in sorted(rows, key=lambda row: (row["target"], row["model"], row["threads"])):
        lines.append(
            f"| {row['model']} | {row['target']} | {row['threads']} | {row['fp32_ms']:.1f} | "
            f"{row['int8_ms']:.1f} | {row['times']:.2f} |"
        )
    return "\n".join(lines) + "\n"
