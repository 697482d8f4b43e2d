"""Train every network of docs/results.md at one equal budget; run it again to go on.

    python benchmarks/train_table.py --cache hdr_images --runs runs/table --steps 40000

Same data, steps, schedule, batches and seed for each. What is finished is skipped, what was cut off
is resumed. `--publish` puts finished weights where the package looks for them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
from results import ABLATION, FOUR

from pockethdr.brackets.bracket import RAW
from pockethdr.models.train import TrainConfig, train
from pockethdr.models.train_state import steps_done
from pockethdr.models.zoo import WEIGHTS

NAMES = tuple(dict.fromkeys((*FOUR, *ABLATION)))


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), required=True)
@click.option("--runs", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=40_000, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Some of them.")
@click.option("--publish", is_flag=True, help="Copy finished weights into the package.")
def main(cache: Path, runs: Path, steps: int, only: tuple[str, ...], publish: bool) -> None:
    """Train what is not finished, one network after another."""
    for name in only or NAMES:
        run = runs / name
        done = steps_done(run)
        if done < steps:
            click.echo(f"{name}: {done} of {steps} steps done", err=True)
            train(TrainConfig(name, RAW, cache, run, steps=steps), resume=done > 0)
        if publish:
            shutil.copyfile(run / "ema.safetensors", WEIGHTS / f"{name}-{RAW}.safetensors")


if __name__ == "__main__":
    main()
