"""`pockethdr gather`, `simulate`, `train`, `finetune`: HDR images, brackets of them, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pockethdr.commands import (
    Name,
    Number,
    channel_order_option,
    domain_option,
    seed_option,
    threads_option,
)
from pockethdr.files import check_new_folder, check_place

_DATA = ("simulated", "mobile-hdr")
# Steps, learning rate, warm-up, batch and patch in sensor pixels. `mobile-hdr` is the setting of
# the data set's own networks: patches of 128 packed pixels, 16 of them.
_SETTINGS: dict[str, dict[str, Any]] = {
    "simulated": {"steps": 40_000, "lr": 1e-3, "warmup": 300, "batch": 8, "patch": None},
    "mobile-hdr": {"steps": 200_000, "lr": 2e-4, "warmup": 1000, "batch": 16, "patch": 256},
}


def _phones() -> list[str]:
    from pockethdr.brackets.noise import phones

    return phones()


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="The folder to fill.")
@click.option(
    "--brackets",
    type=click.Path(path_type=Path),
    help="A folder of hdrgt_* folders with HDR images, where there is one.",
)
def gather(cache: Path, brackets: Path | None) -> None:
    """Collect HDR images under free licences, to simulate brackets from.

    What cannot be reached from here is left out with the reason; docs/data.md lists the sources.

    \b
    Example:
      pockethdr gather --cache hdr_images
    """
    from pockethdr.brackets.gather import gather as gathered

    images, _ = gathered(cache, brackets, click.echo)
    click.echo(f"{cache}: {len(images)} images")


@click.command()
@click.argument("hdr", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bracket's folder.")
@domain_option
@click.option(
    "--phone",
    type=Name("phone", _phones),
    default="pixel",
    show_default=True,
    help="A measured noise profile.",
)
@click.option("--iso", default=400.0, show_default=True, help="Sets the noise.")
@click.option("--ratio", default=4.0, show_default=True, help="Exposure of neighbouring frames.")
@click.option("--shake", default=3.0, show_default=True, help="Hand shake in pixels.")
@click.option("--motion", default=0.0, show_default=True, help="Pixels an object moves per frame.")
@click.option("--objects", default=1, show_default=True, help="How many objects move.")
@click.option("--shading", default=0.0, show_default=True, help="Lens shading in the corners.")
@seed_option
def simulate(
    hdr: Path,
    out: Path,
    domain: str,
    phone: str,
    iso: float,
    ratio: float,
    shake: float,
    motion: float,
    objects: int,
    shading: float,
    seed: int,
) -> None:
    """Photograph the HDR image (.exr) as a phone would: three exposures with ground truth.

    \b
    Example:
      pockethdr simulate city.exr --iso 800 --out brackets/city
    """
    from pockethdr.brackets.exr import read_exr
    from pockethdr.brackets.simulate import SimulationSettings, write_bracket
    from pockethdr.brackets.simulate import simulate as simulated

    check_new_folder(out)
    settings = SimulationSettings(
        domain=domain,
        phone=phone,
        iso=iso,
        ratio=ratio,
        shake_px=shake,
        object_px=motion,
        objects=objects,
        shading=shading,
    )
    write_bracket(simulated(read_exr(hdr), settings, seed=seed, name=out.name), out)
    click.echo(out)


@click.command()
@click.argument("name")
@domain_option
@click.option(
    "--data",
    type=click.Choice(_DATA),
    default=_DATA[0],
    show_default=True,
    help="Brackets made on the way, or those of Mobile-HDR.",
)
@click.option(
    "--sources",
    "--root",
    type=click.Path(path_type=Path),
    required=True,
    help="What `pockethdr gather` filled, or the folder of Mobile-HDR.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Folder of the run, with its checkpoints.  [default: runs/NAME-DOMAIN]",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Steps of training.  [default: 40,000; mobile-hdr: 200,000]",
)
@click.option("--minutes", type=Number(0, min_open=True), help="A time budget instead of steps.")
@click.option(
    "--batch", type=click.IntRange(1), help="Patches of a step.  [default: 8; mobile-hdr: 16]"
)
@click.option(
    "--patch",
    type=click.IntRange(16),
    help="Side of a patch in sensor pixels.  [default: 128, rgb: 96; mobile-hdr: 256]",
)
@click.option(
    "--lr",
    type=Number(0, min_open=True),
    help="Learning rate at its peak.  [default: 1e-3; mobile-hdr: 2e-4]",
)
@click.option("--init", type=click.Path(path_type=Path), help="Weights to start from.")
@channel_order_option
@seed_option
@threads_option(default=1, help="CPU threads of the network.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Processes that make batches; 0 makes them in between.",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
def train(name: str, domain: str, data: str, run: Path | None, resume: bool, **given: Any) -> None:
    """Train the network NAME on simulated brackets, or on Mobile-HDR.

    A killed run goes on with --resume, with the batches that would have followed. Several GPUs, or
    the cores of a CPU (--cpu --num_processes 2), share a run by `accelerate launch -m pockethdr.cli
    train …`; --batch is each one's.

    \b
    Example:
      pockethdr train dsan-m32 --sources hdr_images
      pockethdr train dsan-full --data mobile-hdr --root Mobile-HDR
    """
    from pockethdr.models.train import TrainConfig
    from pockethdr.models.train import train as trained

    if given["channel_order"] is not None and data != "mobile-hdr":
        raise click.UsageError(f"--channel-order is of Mobile-HDR's archives, not of {data} data")
    settings = _SETTINGS[data] | {key: value for key, value in given.items() if value is not None}
    if given["minutes"] is not None and given["steps"] is None:
        settings["steps"] = None
    run = run or Path("runs") / f"{name}-{domain}"
    config = TrainConfig(name=name, domain=domain, data=data, run=run, **settings)
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
    help="A cache of HDR images, see `pockethdr gather`.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A .safetensors file.")
@click.option(
    "--recipe", default="tuned", show_default=True, help="A named recipe, or a JSON file."
)
@click.option(
    "--minutes", type=Number(0, min_open=True), default=12.0, show_default=True, help="Time budget."
)
@click.option(
    "--steps", type=click.IntRange(1), help="Train this many steps, however long they take."
)
@click.option(
    "--lr",
    type=Number(0, min_open=True),
    default=3e-4,
    show_default=True,
    help="Learning rate at its peak; 1e-3 for a network of few steps, 1e-4 for one that INT8 costs "
    "less than half a decibel untuned.",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    help="What an earlier run wrote, to go on from; give another --seed, for other batches.",
)
@seed_option
@threads_option(default=1, help="CPU threads of the network.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, beside --out.")
@click.option("--overwrite", is_flag=True, help="Replace the file at --out.")
def finetune(
    model: str,
    weights: Path | None,
    domain: str,
    sources: Path,
    out: Path,
    recipe: str,
    minutes: float,
    steps: int | None,
    lr: float,
    init: Path | None,
    seed: int,
    threads: int,
    resume: bool,
    overwrite: bool,
) -> None:
    """Tune MODEL for INT8: train its rewritten program with the roundings of the artifacts in it.

    What is written holds the tuned weights and their ranges; `pockethdr export --tuned` makes INT8
    artifacts of it. Float artifacts keep the weights of MODEL. A killed run goes on with
    --resume, of --steps to the very result that it would have had.

    \b
    Example:
      pockethdr finetune dsan-m32 --sources hdr_images --out dsan-m32-raw-int8.safetensors
    """
    from pockethdr.commands.export import named_or_file
    from pockethdr.export.finetune import FinetuneConfig
    from pockethdr.export.finetune import finetune as finetuned
    from pockethdr.export.tuned import read_tuned
    from pockethdr.models.load import load_model

    check_place(out, overwrite)
    loaded = load_model(model, domain=domain, weights=weights)
    config = FinetuneConfig(minutes=minutes, steps=steps, lr=lr, seed=seed, threads=threads)
    recipe_ = named_or_file(recipe)
    finetuned(
        loaded,
        sources=sources,
        recipe=recipe_,
        out=out,
        config=config,
        init=read_tuned(init) if init else None,
        resume=resume,
        overwrite=overwrite,
    )
    click.echo(out)
