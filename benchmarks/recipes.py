"""What each INT8 recipe costs: PSNR-µ of the quantised program against the float one.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py --brackets ../shared/brackets

Every named recipe, range method and target scheme, on four 128×128 tiles of each bracket, computed
by the Q/DQ program in PyTorch, which each target's kernels come close to but do not equal. Prints a
Markdown table of the worst bracket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.metrics import psnr_mu
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.calibration.observe import calibrate
from pockethdr.export.kernels import int8_mac_share
from pockethdr.export.placement import handed_on_below_zero
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import METHODS, RECIPES
from pockethdr.export.static import static_program
from pockethdr.export.targets import TARGETS
from pockethdr.models.load import load_model

SIDE = 128
SCHEMES = {
    TARGETS[name].scheme.name: TARGETS[name].scheme for name in ("tflite", "onnx", "tensorrt")
}

Frames = tuple[Tensor, ...]


def corners_and_centre(bracket: Bracket) -> Iterator[Frames]:
    """Four tiles: top left, centre, bottom right, top right."""
    height, width = bracket.size()
    inputs = bracket.inputs()
    bottom, right = height - SIDE, width - SIDE
    for top, left in ((0, 0), (bottom // 2, right // 2), (bottom, right), (0, right)):
        yield tuple(
            torch.from_numpy(x[:, :, top : top + SIDE, left : left + SIDE].copy()) for x in inputs
        )


def worst_bracket(
    program: torch.fx.GraphModule, quantised: torch.fx.GraphModule, tiles: dict[str, list[Frames]]
) -> float:
    """The lowest PSNR-µ in dB over brackets, each over all its tiles side by side."""
    scores = []
    for frames in tiles.values():
        with torch.no_grad():
            wanted = torch.cat([program(*f)[0] for f in frames], 2).numpy()
            found = torch.cat([quantised(*f)[0] for f in frames], 2).numpy()
        scores.append(psnr_mu(found, np.clip(wanted, 0, 1)))
    return min(scores)


@click.command()
@click.option("--model", default="dsan-m32", show_default=True)
@click.option("--domain", default="raw", show_default=True)
@click.option("--brackets", type=click.Path(path_type=Path), required=True)
def main(model: str, domain: str, brackets: Path) -> None:
    """Print the table."""
    loaded = load_model(model, domain=domain)
    read = [
        read_bracket(folder, domain=domain) for folder in find_brackets(brackets, domain=domain)
    ]
    program = static_program(loaded, size=(SIDE, SIDE)).program
    ranges = calibrate(program, read, seed=0, tile=(SIDE, SIDE), patches_per_bracket=8)
    below = handed_on_below_zero(program)
    tiles = {bracket.name: list(corners_and_centre(bracket)) for bracket in read}
    click.echo(f"| recipe | ranges | {' | '.join(SCHEMES)} | INT8 share of MACs |")
    click.echo("|---" * (len(SCHEMES) + 3) + "|")
    pairs = [(recipe, method) for recipe in RECIPES.values() for method in METHODS]
    for recipe, method in track(pairs, console=Console(stderr=True), transient=True):
        cells = []
        for scheme in SCHEMES.values():
            chosen = ranges.ranges(method, symmetric=scheme.symmetric, below=below)
            made = quantized(program, chosen, replace(recipe, method=method), scheme)
            cells.append(f"{worst_bracket(program, made.program, tiles):.1f} dB")
        share = int8_mac_share(made.program)
        click.echo(f"| {recipe.name} | {method} | {' | '.join(cells)} | {share:.0%} |")


if __name__ == "__main__":
    main()
