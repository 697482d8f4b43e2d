"""`pockethdr models` and `pockethdr import-weights`: the named networks, and weights for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pockethdr.commands import Size
from pockethdr.commands.console import print_table

if TYPE_CHECKING:
    from pockethdr.models.zoo import Variant


@click.command()
@click.option(
    "--size",
    type=Size(),
    default="768x1024",
    show_default=True,
    help="Height and width of the network's grid that the multiplications are counted for.",
)
def models(size: tuple[int, int]) -> None:
    """List the named networks, what each costs and is for, and which come with weights.

    \b
    Example:
      pockethdr models --size 1512x2016

    GMAC counts multiply-accumulates of convolutions, for raw frames of --size. Radius is how far
    in pixels an output sees, the halo of a tile; sizes must divide by the next column. Everywhere
    a MODEL is asked for, your own network does as well: package.module:factory or file.py:factory,
    a callable without arguments that returns an nn.Module whose forward(short, mid, long) returns
    the HDR image.
    """
    from rich.table import Table

    from pockethdr.models import zoo

    table = Table("name", box=None)
    for title in ("parameters", "GMAC", "radius", "×"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("domains", "for"):
        table.add_column(title)
    for row in zoo.rows():
        table.add_row(*_cells(row, size))
    print_table(table)
    click.echo(
        "* with weights, Apache-2.0, trained by PocketHDR on simulated brackets.\n"
        f"dsan-* also as NAME-{'|'.join(zoo.PHI_MODES)}: what the dynamic kernels vary over; "
        f"a bare NAME means {zoo.DEFAULT_PHI}."
    )


def _cells(row: Variant, size: tuple[int, int]) -> tuple[str, ...]:
    import torch

    from pockethdr.models import zoo
    from pockethdr.models.cost import macs, parameters

    with torch.device("meta"):
        count = parameters(zoo.network(row.config))
    multiple, radius = row.config.multiple, row.config.radius
    fits = all(side % multiple == 0 for side in size)
    return (
        row.name,
        f"{count:,}",
        f"{macs(row.config, *size) / 1e9:,.1f}" if fits else "–",
        "all" if radius is None else str(radius),
        str(multiple),
        ", ".join(d + "*" * bool(zoo.shipped_weights(row.name, d)) for d in zoo.DOMAINS),
        row.purpose,
    )


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The .safetensors file to write."
)
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def import_weights(checkpoint: Path, out: Path, overwrite: bool) -> None:
    """Turn a CHECKPOINT published for AHDRNet into weights for ahdrnet-paper.

    Takes the layout of qingsenyangit/AHDRNet, which Joint-HDRDN's and deep-hdr-baselines' ahdr.py
    share, with 6 channels a frame (rgb) or 8 (raw). Only tensors are read from a pickle, never
    code. Frames must be what it was trained on: a raw checkpoint of another channel order than
    RGGB gives wrong colours.

    \b
    Example:
      pockethdr import-weights trained_model200.pkl --out ahdrnet.safetensors
      pockethdr export ahdrnet-paper --domain rgb --weights ahdrnet.safetensors --brackets DIR
    """
    from pockethdr.models.published import import_weights as imported

    done = imported(checkpoint, out, overwrite=overwrite)
    click.echo(f"{done.path}: {done.name}, {done.domain}")
    if done.left_out:
        click.echo(f"left out, since its forward pass never runs them: {', '.join(done.left_out)}")
