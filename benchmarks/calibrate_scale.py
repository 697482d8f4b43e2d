"""What calibrating on many brackets of 12 MP takes: memory and time, beside ONNX Runtime's own.

    python benchmarks/calibrate_scale.py

Simulates a few brackets of 4032×3024 and spreads links to them over 64 folders, calibrates
`dsan-m32` on those in one process that says what it had used after 4, 16 and 64 brackets, and gives
the same patches to ONNX Runtime's percentile calibrator, each number of them in a process of its
own, until one is stopped at `--limit`. Writes DOCS/calibration.json and DOCS/calibration.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import calibrate_cases as cases
import click
import cv2

from pockethdr.brackets.invent import invented_scene
from pockethdr.brackets.simulate import SimulationSettings, simulate, write_bracket
from pockethdr.files import write_bytes
from pockethdr.report.host import host

FRAME, MARGIN = (3024, 4032), 16
COUNTS = (4, 16, 64)
#: The goal: peak memory of 64 brackets, in MB.
GOAL_MB = 1500


@click.command()
@click.option("--work", type=click.Path(path_type=Path), help="Keep brackets and artifact here.")
@click.option("--distinct", default=2, show_default=True, help="Brackets that are simulated.")
@click.option("--patches", default=2, show_default=True, help="Of a bracket, each 256×256.")
@click.option("--limit", default=8000, show_default=True, help="MB that a process may take.")
@click.option("--docs", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
def main(work: Path | None, distinct: int, patches: int, limit: int, docs: Path) -> None:
    """Measure, and write the two files."""
    with tempfile.TemporaryDirectory() as scratch:
        work = work or Path(scratch)
        root = work / "brackets"
        click.echo(f"simulating {distinct} brackets of 12 MP", err=True)
        make_brackets(root, distinct, max(COUNTS))
        click.echo("calibrating", err=True)
        counts = ",".join(map(str, COUNTS))
        rows, reason = measured(root, patches, limit, "--counts", counts)
        artifact = fp32_artifact(work)
        theirs: list[dict[str, Any]] = []
        stopped, failed, total = reason, 0, 1
        while not stopped:
            click.echo(f"ONNX Runtime over {total} patches", err=True)
            found, stopped = measured(
                root, patches, limit, "--onnx", artifact, "--total", total
            )  # fmt: skip
            theirs += found
            failed, total = total, 2 * total
    data = {
        "host": host(),
        "command": "python benchmarks/calibrate_scale.py",
        "model": cases.MODEL,
        "tile": list(cases.TILE),
        "patches_per_bracket": patches,
        "distinct_brackets": distinct,
        "limit_mb": limit,
        "ours": rows,
        "onnx_runtime": theirs,
        "onnx_runtime_stopped": {"patches": failed, "reason": stopped},
    }
    docs.mkdir(exist_ok=True)
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(docs / "calibration.json", text.encode(), overwrite=True)
    write_bytes(docs / "calibration.md", page(data).encode(), overwrite=True)
    click.echo(page(data))


def make_brackets(root: Path, distinct: int, count: int) -> None:
    """`count` folders, whose frames are those of `distinct` simulated brackets.

    The metadata of each says which copy it is: files that are all the same would be refused, since
    a bracket that comes twice counts twice.
    """
    for seed in range(distinct):
        if (root / f"scene{seed:02d}").exists():
            continue
        size = tuple(side + 2 * MARGIN for side in FRAME[::-1])
        scene = cv2.resize(invented_scene(seed), size, interpolation=cv2.INTER_CUBIC)
        made = simulate(scene.clip(0), SimulationSettings(margin=MARGIN, bit_depth=12), seed=seed)
        write_bracket(made, root / f"scene{seed:02d}")
    for number in range(distinct, count):
        original, copy = root / f"scene{number % distinct:02d}", root / f"scene{number:02d}"
        if copy.exists():
            continue
        copy.mkdir()
        described = json.loads((original / "metadata.json").read_text())
        described.pop("ground_truth", None)
        for name in described["files"]:
            os.link(original / name, copy / name)
        text = json.dumps({**described, "copy": number})
        write_bytes(copy / "metadata.json", text.encode(), overwrite=True)


def fp32_artifact(folder: Path) -> Path:
    """The ONNX artifact of the same program, in a process that gives its memory back."""
    words = ["export", cases.MODEL, "--targets", "onnx", "--precisions", "fp32"]
    words += ["--brackets", str(Path(__file__).parents[1] / "brackets" / "sample"), "--overwrite"]
    command = [sys.executable, "-m", "pockethdr.cli", *words, "--out", str(folder / "onnx")]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return folder / "onnx" / f"{cases.MODEL}_{cases.DOMAIN}_fp32.onnx"


def measured(root: Path, patches: int, limit: int, *options: object) -> tuple[list[Any], str]:
    """The lines of one case, and why it did not end well, if so."""
    command = [sys.executable, cases.__file__, root, "--patches", patches, *options]
    child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    reason = ""
    while child.poll() is None:
        if resident_mb(child.pid) > limit:
            child.kill()
            reason = f"stopped when it took more than {limit} MB"
        time.sleep(0.05)
    lines = [json.loads(line) for line in child.stdout or () if line.startswith("{")]
    if child.returncode and not reason:
        reason = f"ended with status {child.returncode}"
    return lines, reason


def resident_mb(pid: int) -> float:
    """What a process holds now, in MB; Linux."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):  # it has just ended
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def page(data: dict[str, Any]) -> str:
    """DOCS/calibration.md."""
    stopped = data["onnx_runtime_stopped"]
    lines = [
        "# Calibration at scale",
        "",
        f"`{data['command']}`: `{data['model']}`, raw brackets of 4032×3024 (12 MP), "
        f"{data['patches_per_bracket']} patches of 256×256 of each. {data['distinct_brackets']} "
        f"brackets are simulated and linked into {max(COUNTS)} folders. Memory is the peak of the "
        "whole process, interpreter and libraries included; processor seconds do not depend on "
        "what else the host does, wall time does. Ours runs on one thread, in one process, and is "
        "read as it goes; each number of patches of ONNX Runtime's percentile calibrator "
        "(`create_calibrator`, `collect_data`, `compute_data`) is a process of its own.",
        "",
        "| | brackets | patches | peak, MiB | processor, s | a patch, s | wall, s |",
        "|---|---|---|---|---|---|---|",
        *(_line("**pockethdr**", row) for row in data["ours"]),
        *(_line("ONNX Runtime, percentile", row) for row in data["onnx_runtime"]),
        f"| ONNX Runtime, percentile | – | {stopped['patches']} | {stopped['reason']} | | | |",
        "",
        f"Goal: {GOAL_MB} MB for {max(COUNTS)} brackets, time in proportion to their number. ONNX "
        "Runtime keeps every tensor of every patch until its reader has no more; histograms of "
        "fixed size, filled as patches run, are why ours does not grow.",
        "",
        f"Host: {data['host']['cpu']}. Figures for machines: [calibration.json](calibration.json).",
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, row: dict[str, Any]) -> str:
    each = row["cpu_seconds"] / row["patches"]
    return (
        f"| {name} | {row['brackets']:g} | {row['patches']} | {row['peak_memory_mb']:.0f} | "
        f"{row['cpu_seconds']:.0f} | {each:.2f} | {row['seconds']:.0f} |"
    )


if __name__ == "__main__":
    main()
