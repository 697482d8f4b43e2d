"""Train every network of docs/results.md at one equal budget; run it again to go on.

    python benchmarks/train_table.py --cache hdr_images --runs runs/table --steps 40000

Same data, steps, schedule, batches and seed for each. What is finished is skipped, what was cut off
is resumed. `--more` goes on from there with other batches, warmed up again to a lower rate; the
weights that ship are of `--steps 4000 --more 3600`. The networks of the ablation follow at a budget
of their own. `--publish` puts finished weights where the package, and for the ablation
benchmarks/results.py, looks for them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
from results import ABLATION, ABLATION_WEIGHTS, FOUR

from pockethdr.brackets.bracket import RAW
from pockethdr.models.train import TrainConfig, train
from pockethdr.models.train_state import steps_done
from pockethdr.models.zoo import WEIGHTS


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), required=True)
@click.option("--runs", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=40_000, show_default=True)
@click.option("--more", default=0, show_default=True, help="Steps of a second leg.")
@click.option("--ablation-steps", default=10_000, show_default=True)
@click.option("--publish", is_flag=True, help="Copy finished weights into the package.")
def main(
    cache: Path, runs: Path, steps: int, more: int, ablation_steps: int, publish: bool
) -> None:
    """Train what is not finished, one network after another."""
    for name in FOUR:
        weights = trained(TrainConfig(name, RAW, cache, runs / name, steps=steps))
        if more:
            weights = trained(
                TrainConfig(
                    name, RAW, cache, runs / f"{name}-more", steps=more, seed=1, lr=7e-4,
                    init=weights,
                )
            )  # fmt: skip
        if publish:
            shutil.copyfile(weights, WEIGHTS / f"{name}-{RAW}.safetensors")
    for name in ABLATION:
        run = runs / "ablation" / name
        weights = trained(TrainConfig(name, RAW, cache, run, steps=ablation_steps))
        if publish:
            shutil.copyfile(weights, ABLATION_WEIGHTS / f"{name}.safetensors")


def trained(config: TrainConfig) -> Path:
    """Train what the run still lacks; its weights."""
    done, steps = steps_done(config.run), config.steps or 0
    if done < steps:
        click.echo(f"{config.run}: {done} of {steps} steps done", err=True)
        train(config, resume=done > 0)
    return config.run / "ema.safetensors"


if __name__ == "__main__":
    main()
