"""`pockethdr simulate`, `train` and `finetune`: brackets from HDR images, weights from those."""

from __future__ import annotations

from pathlib import Path

import click

from pockethdr.commands import domain_option


@click.command()
@click.argument("hdr", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bracket's folder.")
@domain_option
@click.option("--phone", default="pixel", show_default=True, help="A measured noise profile.")
@click.option("--iso", default=400.0, show_default=True)
@click.option("--ratio", default=4.0, show_default=True, help="Exposure of neighbouring frames.")
@click.option("--shake", default=3.0, show_default=True, help="Hand shake in pixels.")
@click.option("--motion", default=0.0, show_default=True, help="Pixels an object moves per frame.")
@click.option("--seed", default=0, show_default=True)
def simulate(
    hdr: Path,
    out: Path,
    domain: str,
    phone: str,
    iso: float,
    ratio: float,
    shake: float,
    motion: float,
    seed: int,
) -> None:
    """Photograph the HDR image (.exr) as a phone would: three exposures with ground truth.

    \b
    Example:
      pockethdr simulate city.exr --iso 800 --out brackets/city
    """
    from pockethdr.brackets.exr import read_exr
    from pockethdr.brackets.simulate import Simulation, write_bracket
    from pockethdr.brackets.simulate import simulate as simulated

    settings = Simulation(
        domain=domain, phone=phone, iso=iso, ratio=ratio, shake_px=shake, object_px=motion
    )
    write_bracket(simulated(read_exr(hdr), settings, seed=seed, name=out.name), out)
    click.echo(out)


@click.command()
@click.argument("name")
@domain_option
@click.option(
    "--sources",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder of folders of HDR images.",
)
@click.option("--run", type=click.Path(path_type=Path), required=True, help="For checkpoints.")
@click.option("--minutes", default=60.0, show_default=True, help="Time budget.")
@click.option("--steps", type=click.IntRange(1), help="Stop after this many, whatever the time.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
def train(
    name: str,
    domain: str,
    sources: Path,
    run: Path,
    minutes: float,
    steps: int | None,
    seed: int,
    threads: int,
    resume: bool,
) -> None:
    """Train the network NAME on simulated brackets, within a time budget.

    A killed run goes on with --resume, with the batches that would have followed.

    \b
    Example:
      pockethdr train dsan-m32 --sources hdr_images --run runs/m32 --minutes 60
    """
    from pockethdr.models.train import TrainConfig
    from pockethdr.models.train import train as trained

    config = TrainConfig(
        name, domain, sources, run, minutes=minutes, steps=steps, seed=seed, threads=threads
    )
    click.echo(trained(config, resume=resume))


@click.command()
@click.argument("model")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="A .safetensors file; without it, the ones shipped with a named network.",
)
@domain_option
@click.option(
    "--sources",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder of folders of HDR images.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A .safetensors file.")
@click.option(
    "--recipe", default="tuned", show_default=True, help="A named recipe, or a JSON file."
)
@click.option("--minutes", default=12.0, show_default=True, help="Time budget.")
@click.option("--steps", type=click.IntRange(1), help="That many steps, whatever the time.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def finetune(
    model: str,
    weights: Path | None,
    domain: str,
    sources: Path,
    out: Path,
    recipe: str,
    minutes: float,
    steps: int | None,
    seed: int,
    threads: int,
) -> None:
    """Tune MODEL for INT8: train its rewritten program with the roundings of the artifacts in it.

    The file holds the tuned weights and their ranges; `pockethdr export --tuned` makes INT8
    artifacts of them. Float artifacts keep the weights of MODEL.

    \b
    Example:
      pockethdr finetune dsan-m32 --sources hdr_images --out dsan-m32-raw-int8.safetensors
    """
    from pockethdr.commands.export import named_or_file
    from pockethdr.export.finetune import FinetuneConfig
    from pockethdr.export.finetune import finetune as finetuned
    from pockethdr.models.load import load_model

    loaded = load_model(model, domain=domain, weights=weights)
    config = FinetuneConfig(minutes=minutes, steps=steps, seed=seed, threads=threads)
    finetuned(loaded, sources=sources, recipe=named_or_file(recipe), out=out, config=config)
    click.echo(out)
