"""Train every network of docs/results.md at one equal budget; run it again to go on.

    python benchmarks/train_table.py --cache hdr_images --runs runs/table --steps 40000

Same data, steps, schedule, batches and seed for each. What is finished is skipped, what was cut off
is resumed. Each `--more` is a further leg with other batches, warmed up again to a lower rate, and
`--on` one of DSAN alone. The weights that ship are of `--steps 4000 --more 3600 --more 12400
--more 20000 --on 40000`, those in `equal_budget` DSAN's before the last. The networks of the
ablation follow at a budget of their own. `--publish` puts finished weights where the package and
benchmarks/results.py look for them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
from results import ABLATION, ABLATION_WEIGHTS, DSAN, EQUAL_BUDGET, FOUR, ON, SMALLER

from pockethdr.brackets.bracket import RAW
from pockethdr.models.train import TrainConfig, train
from pockethdr.models.train_state import steps_done
from pockethdr.models.zoo import WEIGHTS

# Learning rates of further legs; the last is that of all beyond.
_RATES = (7e-4, 5e-4)


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), required=True)
@click.option("--runs", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=40_000, show_default=True)
@click.option("--more", type=int, multiple=True, help="Steps of a further leg; may be repeated.")
@click.option("--on", type=int, help="Steps of a further leg of DSAN alone.")
@click.option("--ablation-steps", default=10_000, show_default=True)
@click.option("--publish", is_flag=True, help="Copy finished weights into the package.")
def main(
    cache: Path,
    runs: Path,
    steps: int,
    more: tuple[int, ...],
    on: int | None,
    ablation_steps: int,
    publish: bool,
) -> None:
    """Train what is not finished, one network after another."""
    for name in (*FOUR, *SMALLER):
        weights = trained(TrainConfig(name, RAW, cache, runs / name, steps=steps))
        for leg, further in enumerate(more, start=1):
            run = runs / f"{name}-more{leg}"
            weights = trained(_leg(name, cache, run, leg, further, weights))
        if publish and name == DSAN:
            shutil.copyfile(weights, EQUAL_BUDGET)
        if on and name == DSAN:
            weights = trained(_leg(name, cache, runs / ON, len(more) + 1, on, weights))
        if publish:
            shutil.copyfile(weights, WEIGHTS / f"{name}-{RAW}.safetensors")
    for name in ABLATION:
        run = runs / "ablation" / name
        weights = trained(TrainConfig(name, RAW, cache, run, steps=ablation_steps))
        if publish:
            shutil.copyfile(weights, ABLATION_WEIGHTS / f"{name}.safetensors")


def _leg(name: str, cache: Path, run: Path, leg: int, steps: int, weights: Path) -> TrainConfig:
    rate = _RATES[min(leg, len(_RATES)) - 1]
    return TrainConfig(name, RAW, cache, run, steps=steps, seed=leg, lr=rate, init=weights)


def trained(config: TrainConfig) -> Path:
    """Train what the run still lacks; its weights."""
    done, steps = steps_done(config.run), config.steps or 0
    if done < steps:
        click.echo(f"{config.run}: {done} of {steps} steps done", err=True)
        train(config, resume=done > 0)
    return config.run / "ema.safetensors"


if __name__ == "__main__":
    main()
