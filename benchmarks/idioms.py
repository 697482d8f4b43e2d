"""What of a network each target takes, and how near its artifact comes: docs/idioms.md.

    python benchmarks/idioms.py

Each idiom of `idiom_cases`, untrained, goes through the same rewrites, quantisation and converters
as a network of yours, and every artifact is run on one set of seeded random frames. About twenty
minutes.
"""

from __future__ import annotations

import math
import platform
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from idiom_cases import GROUPS
from rich.console import Console
from rich.progress import track
from torch import Tensor, fx, nn

from pockethdr.brackets.bracket import RAW
from pockethdr.brackets.metrics import psnr
from pockethdr.calibration.observe import Observer
from pockethdr.calibration.ranges import ranges_of
from pockethdr.errors import PocketError, first_line
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.rewrite import apply_rewrites
from pockethdr.export.static import standard_rewrites
from pockethdr.export.targets import TARGETS
from pockethdr.export.trace import traced
from pockethdr.files import write_bytes
from pockethdr.models.load import example_frames
from pockethdr.runtime.runner import open_runner

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAMES = {"onnx": "ONNX", "tflite": "TFLite", "coreml": "Core ML"}
PRECISIONS = ("fp32", "int8")
SIDE = 32

Frames = Sequence[Tensor]
Ranges = Mapping[str, tuple[float, float]]


@click.command()
@click.option("--only", default="", help="Idioms whose name contains this; writes nothing.")
def main(only: str) -> None:
    """Write the tables."""
    warnings.simplefilter("ignore")
    chosen = {
        group: {name: make for name, make in idioms.items() if only in name}
        for group, idioms in GROUPS.items()
    }
    count = sum(map(len, chosen.values()))
    makes = [(group, *idiom) for group, idioms in chosen.items() for idiom in idioms.items()]
    lines: dict[str, list[str]] = {group: [] for group in chosen}
    reasons: list[str] = []
    for group, name, make in track(makes, console=Console(stderr=True), transient=True):
        lines[group].append(f"| {name} | {' | '.join(_cells(name, make, reasons))} |")
    page = _page(lines, reasons, count)
    if only:
        click.echo(page)
    else:
        write_bytes(DOCS / "idioms.md", page.encode(), overwrite=True)


def _cells(name: str, make: Callable[[], nn.Module], reasons: list[str]) -> list[str]:
    """PSNR of each artifact, or a number of `reasons`."""
    torch.manual_seed(0)
    network, frames = make().eval(), example_frames(RAW, SIDE, SIDE, seed=1)
    program = apply_rewrites(traced(network, frames), standard_rewrites(), [frames]).program
    ranges = _ranges(program, frames)
    with torch.no_grad():
        expected = network(*frames).numpy()
    found = []
    for target in NAMES:
        for precision in PRECISIONS:
            try:
                image = _artifact(program, ranges, frames, target, precision)
                found.append(_db(image, expected))
            except PocketError as error:
                reasons.append(f"{name}, {NAMES[target]} {precision}: {first_line(error)}")
                found.append(f"– [^{len(reasons)}]")
    return found


def _db(image: np.ndarray, expected: np.ndarray) -> str:
    found = psnr(image, expected, data_range=1.0)
    return f"{found:.0f}" if math.isfinite(found) else "identical"


def _artifact(
    program: fx.GraphModule, ranges: Ranges, frames: Frames, target: str, precision: str
) -> np.ndarray:
    """What an artifact of `program` makes of the frames."""
    to = TARGETS[target]
    if precision == "int8":
        program = quantized(program, ranges, RECIPES["full"], to.scheme).program
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"idiom{to.suffix}"
        to.build(program, frames, precision, path)
        runner = open_runner(path, target, threads=1)
        try:
            return runner.run(tuple(frame.numpy() for frame in frames))
        finally:
            runner.close()


def _ranges(program: fx.GraphModule, frames: Frames) -> Ranges:
    observer = Observer(program)
    with torch.no_grad():
        observer.run(*frames)
    return ranges_of(observer.counted(), "minmax", methods={}, below={})


def _page(lines: dict[str, list[str]], reasons: Sequence[str], count: int) -> str:
    heads = [f"{name} {precision}" for name in NAMES.values() for precision in PRECISIONS]
    page = [
        "# What the targets take",
        "",
        f"{count} idioms of HDR and restoration networks, each between two convolutions, without",
        "training, through the rewrites, the quantisation and the converters that a network of",
        "yours goes through. PSNR in dB of the artifact's image to PyTorch's, peak 1, on seeded",
        "random frames; INT8 by the recipe `full`, where everything that can be is integer. Core",
        "ML's figures are those of our evaluator. Written by `python benchmarks/idioms.py` on",
        f"{platform.machine()}.",
    ]
    for group, rows in lines.items():
        if rows:
            page += ["", f"## {group}", "", f"| | {' | '.join(heads)} |", "|---" * 7 + "|", *rows]
    if reasons:
        page += ["", *(f"[^{number}]: {reason}" for number, reason in enumerate(reasons, 1))]
    return "\n".join([*page, ""])


if __name__ == "__main__":
    main()
