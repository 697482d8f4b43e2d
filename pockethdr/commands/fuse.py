"""`pockethdr fuse`: a bracket through an artifact, to an HDR file and a preview."""

from __future__ import annotations

from pathlib import Path

import click

from pockethdr.commands.console import steps


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("bracket", metavar="BRACKET_DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Linear .exr, .hdr, .tif; or .jpg (Ultra HDR), .avif (PQ).",
)
@click.option("--preview", type=click.Path(path_type=Path), help="Also a .jpg or .png to look at.")
@click.option("--exposure", default=0.0, show_default=True, help="Stops, of what displays show.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def fuse(
    artifact: Path,
    bracket: Path,
    out: Path,
    preview: Path | None,
    exposure: float,
    threads: int,
    overwrite: bool,
) -> None:
    """Fuse the three exposures of BRACKET_DIR with ARTIFACT, tile by tile.

    \b
    Example:
      pockethdr fuse out/m32/dsan-m32_rgb_int8.tflite photos/garden --out garden.exr \\
          --preview garden.jpg
    """
    from pockethdr.runtime.fuse import Fuser
    from pockethdr.runtime.write import check_suffixes, save_hdr, save_preview

    check_suffixes(out, preview)
    with Fuser(artifact, threads=threads) as fuser, steps("fusing") as step:
        image = fuser.fuse(bracket, progress=lambda done, total: step("", done, total))
    save = {"overwrite": overwrite, "exposure": exposure, "threads": threads}
    click.echo(f"{out}: {save_hdr(image, out, **save)}")
    if preview:
        click.echo(f"{preview}: {save_preview(image, preview, **save)}")
    for note in (f"{image.runner}, {image.tiles} tiles", *image.notes):
        click.echo(note)
