"""Whether choosing each tensor's range at the output pays, on brackets that it was not chosen on.

    OMP_NUM_THREADS=1 python benchmarks/range_methods.py --recipe hdr-ends --cache hdr_images \\
        --brackets ../shared/brackets

Chooses ranges on every other of `--brackets` (`export.auto_methods`) and prints what the program
with them loses against ground truth, beside each method for all tensors alike, on the test set
(`brackets.testset`), simulated. The network's float weights, whatever was tuned.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from int8 import held_out

from pockethdr.brackets.read import find_brackets
from pockethdr.export.auto_methods import recipe_by_output
from pockethdr.export.recipe import METHODS, named_recipe
from pockethdr.export.rehearsal import rehearsal
from pockethdr.export.simulate import scene_of
from pockethdr.models.load import load_model

SIZE, PATCHES = (128, 128), 4


@click.command()
@click.option("--model", default="dsan-m32", show_default=True)
@click.option("--recipe", "name", default="hdr", show_default=True)
@click.option("--cache", required=True, type=click.Path(path_type=Path))
@click.option("--brackets", required=True, type=click.Path(path_type=Path))
@click.option("--count", default=6, show_default=True, help="At most this many test brackets.")
def main(model: str, name: str, cache: Path, brackets: Path, count: int) -> None:
    """Print the table."""
    loaded = load_model(model, domain="raw")
    base = replace(named_recipe(name), method="mse")

    def say(what: str) -> None:
        click.echo(what, err=True)

    folders = find_brackets(brackets, domain="raw")
    ready = rehearsal(loaded, base, brackets=folders, size=SIZE, say=say)
    chosen = recipe_by_output(ready, base, say=say)
    unused = [
        scene_of(bracket, loaded.module, tile=SIZE, patches=PATCHES)
        for bracket in held_out(cache, count)
    ]
    click.echo(f"{chosen}")
    click.echo("| ranges | µ, dB | ℓ, dB | roundings, µ | roundings, ℓ |\n|---|---|---|---|---|")
    rows = {method: replace(base, method=method) for method in METHODS}
    for label, recipe in {**rows, "auto": chosen.recipe}.items():
        simulation = replace(ready.simulation(recipe), scenes=tuple(unused))
        lost, added = simulation.loss(recipe), simulation.sensitivity(recipe)
        figures = (lost.mu_db, lost.l_db, added.mu_db, added.l_db)
        click.echo(f"| {label} | {' | '.join(f'{figure:+.3f}' for figure in figures)} |")


if __name__ == "__main__":
    main()
