"""From a 12 MP raw bracket to an Ultra HDR file: time, memory and where they go, side by side.

    python benchmarks/fuse.py --brackets ../shared/brackets

Exports `dsan-m32` for whole frames, makes a 12 and a 48 MP bracket of the bundled sample, and
measures each case in a process of its own, on two threads: about ten minutes on two quiet cores.
Writes docs/performance.json and docs/performance.md. A case that fails, or takes longer than
`--limit`, has its reason there instead of figures.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import cv2
import fuse_cases as cases
import imagecodecs
import numpy as np
from dng import write_dng

from pockethdr.brackets import formats
from pockethdr.brackets.read import find_brackets
from pockethdr.export.manifest import read_manifest
from pockethdr.files import write_bytes
from pockethdr.report.host import host

MODEL, TILE, THREADS = "dsan-m32", "552x720", 2
FRAMES = {"12 MP": (3024, 4032), "48 MP": (6048, 8064)}
WHOLE = {
    "fuse_12mp": "INT8, 12 MP",
    "fuse_12mp_dng": "INT8, DNG, 12 MP",
    "fuse_12mp_fp32": "FP32, 12 MP",
    "fuse_48mp": "INT8, 48 MP",
    "fuse_12mp_aligned": "INT8, aligned, 12 MP",
    "fuse_48mp_aligned": "INT8, aligned, 48 MP",
}
# Pixels of the sensor between a frame and the next of a hand-held bracket: even, as a mosaic is.
SHAKE = (6, 10)
NO_BURST_MERGE = "No HDR+-style merge is published as an installable package."
SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))


@click.command()
@click.option("--brackets", type=click.Path(path_type=Path), help="Simulated ones, with truth.")
@click.option("--work", type=click.Path(path_type=Path), help="Keep exports and brackets here.")
@click.option("--docs", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--limit", default=150.0, show_default=True, help="Seconds that a case may take.")
def main(brackets: Path | None, work: Path | None, docs: Path, rounds: int, limit: float) -> None:
    """Measure everything and write the two files."""
    with tempfile.TemporaryDirectory() as scratch:
        work = work or Path(scratch)
        child = Cases(limit)
        child.say(f"exporting {MODEL} at {TILE}")
        export = exported(work, TILE)
        child.say("making brackets of 12 and 48 MP")
        made = {name: bracket_of(work, name, size) for name, size in FRAMES.items()}
        shaken = {
            name: bracket_of(work, f"{name} shaken", size, SHAKE) for name, size in FRAMES.items()
        }
        made["DNG"] = dng_of(made["12 MP"], work / "12MP_dng")
        int8, fp32 = (export / f"{MODEL}_raw_{p}.tflite" for p in ("int8", "fp32"))
        found: dict[str, Any] = {
            "host": host(),
            "command": "python benchmarks/fuse.py --brackets ../shared/brackets",
            "fuse_12mp": child("whole", int8, made["12 MP"], work, rounds),
            "fuse_12mp_fp32": child("whole", fp32, made["12 MP"], work, 1),
            "fuse_12mp_dng": child("whole", int8, made["DNG"], work, rounds),
            "fuse_48mp": child("whole", int8, made["48 MP"], work, 1),
            "fuse_12mp_aligned": child("whole", int8, shaken["12 MP"], work, 1, "align"),
            "fuse_48mp_aligned": child("whole", int8, shaken["48 MP"], work, 1, "align"),
            "halo_share": halo_share(export),
            "runtimes": child("runtimes", export, 3 * rounds),
            "blocks": child("blocks", 3 * rounds),
            "merges": child("merges", int8, *map(str, simulated(brackets))),
        }
    docs.mkdir(exist_ok=True)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(docs / "performance.json", text.encode(), overwrite=True)
    write_bytes(docs / "performance.md", page(found).encode(), overwrite=True)
    click.echo(page(found))


def exported(work: Path, tile: str) -> Path:
    """An export of the model at `tile`, done once."""
    out = work / f"export_{tile}"
    command = f"export {MODEL} --targets tflite,onnx --precisions fp32,int8 --size {tile}"
    run_command(*command.split(), "--brackets", SAMPLE, "--out", out, "--overwrite")
    return out


def run_command(*arguments: object) -> None:
    command = [sys.executable, "-m", "pockethdr.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def bracket_of(
    work: Path, name: str, size: tuple[int, int], shake: tuple[int, int] = (0, 0)
) -> Path:
    """The sample repeated to `size` with noise of its own, so that nothing decodes too easily.

    Each frame lies `shake` rows and columns further than the one before.
    """
    folder = work / name.replace(" ", "")
    folder.mkdir(parents=True, exist_ok=True)
    described = json.loads((SAMPLE / "metadata.json").read_text())
    random = np.random.default_rng(0)
    for index, file in enumerate(described["files"]):
        stored = formats.read_pixels(SAMPLE / file)
        repeats = [-(-side // own) for side, own in zip(size, stored.shape, strict=True)]
        codes = np.tile(stored, repeats)[: size[0], : size[1]].astype(np.int16)
        codes = np.roll(codes, [index * step for step in shake], (0, 1))
        codes += random.integers(-3, 4, size, dtype=np.int16)
        coded = np.clip(codes, 0, described["white_level"]).astype(np.uint16)
        (folder / file).write_bytes(imagecodecs.png_encode(coded, level=6))
    described.pop("ground_truth", None)
    write_bytes(folder / "metadata.json", json.dumps(described).encode(), overwrite=True)
    return folder


def dng_of(pngs: Path, folder: Path) -> Path:
    """The same codes as uncompressed DNGs, with what a phone's own writer says of them."""
    folder.mkdir(exist_ok=True)
    described = json.loads((pngs / "metadata.json").read_text())
    for file, seconds in zip(described["files"], described["exposure_times_s"], strict=True):
        codes = formats.read_pixels(pngs / file)
        write_dng((folder / file).with_suffix(".dng"), codes, seconds, described)
    return folder


class Cases:
    """Runs one case after the other, each alone, and says when each began."""

    def __init__(self, limit: float) -> None:
        self.limit, self.begin = limit, time.perf_counter()

    def __call__(self, case: str, *arguments: object) -> Any:
        """The figures of one case; or the reason why there are none."""
        self.say(f"{case} {' '.join(Path(str(a)).name for a in arguments)}")
        command = [sys.executable, cases.__file__, case, *map(str, arguments)]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=self.limit)
        except subprocess.TimeoutExpired:
            return {"reason": f"not finished within {self.limit:.0f} s"}
        if done.returncode:
            return {"reason": f"the process ended with status {done.returncode}"}
        return json.loads(done.stdout.splitlines()[-1])

    def say(self, what: str) -> None:
        click.echo(f"[{time.perf_counter() - self.begin:5.0f} s] {what}", err=True)


def halo_share(export: Path) -> dict[str, float]:
    """The share of the network's pixels that tiles compute twice."""
    manifest = read_manifest(export)
    return {name: cases.halo_share(manifest, size) for name, size in FRAMES.items()}


def simulated(brackets: Path | None) -> list[Path]:
    """Raw brackets with ground truth."""
    found = find_brackets(brackets, domain="raw") if brackets else []
    return [path for path in found if (path / "gt_camera_rgb.exr").exists()] or [SAMPLE]


def page(found: dict[str, Any]) -> str:
    """docs/performance.md."""
    hosted = found["host"]
    sections: list[tuple[str, Callable[[dict[str, Any]], list[str]]]] = [
        ("A 12 MP raw bracket to Ultra HDR", whole_table),
        ("Where the time goes", stage_table),
        ("The same tile in other runtimes", runtime_table),
        ("A dynamic convolution against a plain one, INT8", block_table),
        ("Against merges that nobody trained", merge_table),
    ]
    lines = [
        "# Performance",
        "",
        f"Written by `{found['command']}` on {hosted['cores']} cores of {hosted['cpu']} "
        f"({hosted['machine']}), {THREADS} threads. Goals are beside the figures, met or not.",
    ]
    for title, table in sections:
        lines += ["", f"## {title}", "", *table(found)]
    return "\n".join(lines) + "\n"


def whole_table(found: dict[str, Any]) -> list[str]:
    cases_shown = [found[key] for key in WHOLE]
    lines = [
        f"`{MODEL}` TFLite, tiles of {TILE}. The ratio is wall time from opening the artifact to "
        "the written file over the bare interpreter's time for the same number of tiles; memory "
        "is the process's largest resident set, libraries included. *libpng and libjpeg alone* is "
        "what decoding the frames on both threads and coding the picture takes without PocketHDR.",
        "",
        f"| | {' | '.join(WHOLE.values())} | goal |",
        "|---" * (len(WHOLE) + 2) + "|",
    ]
    rows = {
        "seconds": ("seconds", "{:.2f}", ""),
        "bare interpreter, s": ("interpreter_seconds", "{:.2f}", ""),
        "libpng and libjpeg alone, s": ("codecs_seconds", "{:.2f}", ""),
        "ratio": ("ratio_to_interpreter", "{:.2f}", "≤ 1.25"),
        "outside the network": ("outside_share", "{:.1%}", "< 20 %"),
        "peak memory, MB": ("peak_memory_mb", "{:.0f}", "< 500, ± 10 % at 48 MP"),
    }
    for title, (key, shape, goal) in rows.items():
        cells = [shown(case, key, shape) for case in cases_shown]
        lines.append(f"| {title} | {' | '.join(cells)} | {goal} |")
    halo = [f"{found['halo_share'][name[-5:]]:.1%}" for name in WHOLE.values()]
    return [*lines, f"| halo computed twice | {' | '.join(halo)} | < 15 % |"]


def stage_table(found: dict[str, Any]) -> list[str]:
    lines = [
        "*run* includes the tensors that the runtime makes before its first tile, which the bare "
        "interpreter's time does not.",
        "",
        f"| stage, s | {' | '.join(WHOLE.values())} |",
        "|---" * (len(WHOLE) + 1) + "|",
    ]
    runs = [found[key].get("stages", {}) for key in WHOLE]
    for stage in runs[0]:
        cells = [f"{run[stage]:.2f}" if stage in run else "–" for run in runs]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return lines


def runtime_table(found: dict[str, Any]) -> list[str]:
    rows = found["runtimes"]
    if "reason" in rows:
        return [rows["reason"]]
    lines = [
        f"Medians of {rows['rounds']} interleaved rounds, one tile of {TILE}, two threads. *times* "
        "is over the TFLite artifact of the same precision, which `fuse` runs. Goal: all above 1.",
        "",
        "| | ms | times |",
        "|---|---|---|",
    ]
    for name, row in rows["engines"].items():
        cells = f"{row['ms']:.1f} | {row['times']:.2f}" if "ms" in row else f"{row['reason']} | –"
        lines.append(f"| {name} | {cells} |")
    return lines


def block_table(found: dict[str, Any]) -> list[str]:
    if "reason" in found["blocks"]:
        return [found["blocks"]["reason"]]
    lines = [
        "Four in a row (`benchmarks/static_vs_dynamic.py`), 128×128, one thread, medians of one "
        "interleaved run. *MACs* is the ratio of multiply-accumulates, Φ's own prediction "
        "included: about what the ratio would be if nothing but convolutions cost time.",
        "",
        "| Φ per | rewritten, ms | plain 3×3, ms | ratio | MACs | goal |",
        "|---|---|---|---|---|---|",
    ]
    for phi, goal in (("image", 1.15), ("pixel", 1.4)):
        row = found["blocks"][phi]
        ratio = row["rewritten_ms"] / row["plain_ms"]
        cells = f"{row['rewritten_ms']:.2f} | {row['plain_ms']:.2f} | {ratio:.2f}"
        lines.append(f"| {phi} | {cells} | {row['macs_ratio']:.2f} | ≤ {goal} |")
    return lines


def merge_table(found: dict[str, Any]) -> list[str]:
    merges = found["merges"]
    if "reason" in merges:
        return [merges["reason"]]
    names = list(next(iter(merges.values())))
    lines = [
        "PSNR-µ in dB against ground truth, in developed linear sRGB; what has no scale of its own "
        "is given the one that fits the truth best. Goal: 3 dB above the best merge on average.",
        "",
        "| bracket | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for bracket, row in merges.items():
        cells = [f"{row[n]['psnr_mu']:.2f} ({row[n]['seconds']:.2f} s)" for n in names]
        lines.append(f"| {bracket} | {' | '.join(cells)} |")
    means = [statistics.mean(row[n]["psnr_mu"] for row in merges.values()) for n in names]
    lines.append("| **mean** | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    ahead = means[0] - max(means[1:])
    lines += ["", f"The network minus the best merge: {ahead:+.2f} dB. {NO_BURST_MERGE}"]
    return lines


def shown(case: dict[str, Any], key: str, shape: str) -> str:
    return shape.format(case[key]) if case.get(key) is not None else case.get("reason", "–")


if __name__ == "__main__":
    cv2.setNumThreads(THREADS)
    main()
