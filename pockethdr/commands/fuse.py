"""`pockethdr fuse`: brackets through an artifact, to HDR files and previews."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pockethdr.brackets.response_names import RESPONSES
from pockethdr.commands import Name, Number, threads_option
from pockethdr.commands.console import steps
from pockethdr.errors import BracketError, PocketError
from pockethdr.files import check_folder, check_place

if TYPE_CHECKING:
    from pockethdr.runtime.fuse import Fuser
    from pockethdr.runtime.image import HDRImage

FAILED = 1


def _formats() -> list[str]:
    from pockethdr.runtime.write import HDR_FORMATS

    return [suffix.lstrip(".") for suffix in HDR_FORMATS]


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("bracket", metavar="[BRACKET_DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Linear .exr, .hdr, .tif; or .jpg (Ultra HDR), .avif (PQ). With --batch, a folder.",
)
@click.option("--preview", type=click.Path(path_type=Path), help="Also a .jpg or .png to look at.")
@click.option(
    "--batch",
    type=click.Path(path_type=Path),
    help="Fuse every bracket under this folder; what is in --out already is left as it is.",
)
@click.option(
    "--format",
    "suffix",
    type=Name("format", _formats),
    default="jpg",
    show_default=True,
    help="Of the files that --batch writes.",
)
@click.option("--align", is_flag=True, help="Lay hand-held frames over each other first.")
@click.option(
    "--response",
    type=click.Choice(RESPONSES),
    default="auto",
    show_default=True,
    help="How encoded rgb becomes linear; debevec fits a curve to the bracket.",
)
@click.option(
    "--exposure",
    type=Number(-20, 20),
    default=0.0,
    show_default=True,
    help="Stops by which .jpg, .avif and previews are brightened.",
)
@threads_option(default=2, help="CPU threads of the runtime, and of what is done around it.")
@click.option(
    "--memory",
    metavar="512MB",
    help="What the process may take, in MB of 2^20 bytes: the largest tile that fits, of the sizes "
    "that lie beside ARTIFACT (see `export --size`). Refused, with the least that would do, where "
    "none fits.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.pass_context
def fuse(
    context: click.Context,
    artifact: Path,
    bracket: Path | None,
    out: Path,
    preview: Path | None,
    batch: Path | None,
    suffix: str,
    align: bool,
    response: str,
    exposure: float,
    threads: int,
    memory: str | None,
    overwrite: bool,
) -> None:
    """Fuse the three exposures of BRACKET_DIR with ARTIFACT, tile by tile.

    With --batch, every bracket under a folder: a bad one is reported and passed over, and the exit
    status is 1 at the end. Run again, it goes on where it stopped. EXIF of the middle exposure goes
    along, the place where it was taken too.

    \b
    Examples:
      pockethdr fuse out/m32/dsan-m32_rgb_int8.tflite photos/garden --out garden.jpg
      pockethdr fuse out/m32/dsan-m32_raw_int8.tflite --batch photos --out fused --format exr
      pockethdr fuse out/m32/552x720/dsan-m32_raw_int8.tflite photos/garden --out garden.jpg \\
          --memory 256MB
    """
    from pockethdr.runtime.fuse import Fuser

    if (bracket is None) == (batch is None) or (batch and preview):
        raise click.UsageError("give BRACKET_DIR, or --batch FOLDER without --preview")
    given = context.get_parameter_source("suffix") is not ParameterSource.DEFAULT
    if given and batch is None:
        raise click.UsageError(f"--format is for --batch; {out.name or out} says itself what it is")
    save = {"overwrite": overwrite, "exposure": exposure, "threads": threads}
    options: dict[str, Any] = {"threads": threads, "align": align, "response": response}
    options["memory"] = memory
    if bracket is not None:
        _check(out, preview, overwrite)
        _check_spared(bracket, out, preview)
        with Fuser(artifact, **options) as fuser:
            _one(fuser, bracket, out, preview, save)
    elif batch is not None:
        check_folder(out)
        _check_apart(batch, out, suffix)
        with Fuser(artifact, **options) as fuser:
            context.exit(_many(fuser, batch, out, suffix, save))


def _check(out: Path, preview: Path | None, overwrite: bool) -> None:
    """Refuse what cannot be written before any work is done."""
    from pockethdr.runtime.write import check_suffixes

    check_suffixes(out, preview)
    if preview and out.resolve() == preview.resolve():
        raise click.UsageError(f"--out and --preview are both {out}")
    for path in (out, *([preview] if preview else [])):
        check_place(path, overwrite)


def _check_spared(bracket: Path, *results: Path | None) -> None:
    """Refuse to replace an exposure by what is made of it, whatever --overwrite says."""
    from pockethdr.brackets.formats import is_photograph, read_header

    for path in results:
        if path is None or not (path.is_file() and is_photograph(path)):
            continue
        if path.resolve().parent == bracket.resolve() and not read_header(path).is_ours:
            raise PocketError(
                f"{path} is a photograph of the bracket, and stays",
                expected="a file of another name, or one that PocketHDR made",
            )


def _check_apart(root: Path, out: Path, suffix: str) -> None:
    """The next run must not take results for exposures of a bracket, nor for one of their own."""
    from pockethdr.brackets.formats import is_photograph

    result = out / f"a.{suffix}"
    if is_photograph(result) and out.resolve().is_relative_to(root.resolve()):
        raise PocketError(
            f"--out {out} lies in {root}, where {result.suffix} is taken for exposures",
            expected="a folder outside of it",
            fix=f"--out {root.resolve()}_fused, or --format exr",
        )


def _one(
    fuser: Fuser, bracket: Path, out: Path, preview: Path | None, save: dict[str, Any]
) -> None:
    from pockethdr.runtime.write import save_hdr, save_preview

    with steps("fusing") as step:
        read = fuser.read(bracket)
        click.echo(f"{read.name}: {read.selection}")
        image = fuser.fuse(read, progress=lambda done, total: step("", done, total))
    fuser.close()  # its memory is not needed for developing
    click.echo(f"{out}: {save_hdr(image, out, **save)}")
    if preview:
        click.echo(f"{preview}: {save_preview(image, preview, **save)}")
    for note in (f"{image.runner}, {image.tiles} tile{'s' * (image.tiles != 1)}", *image.notes):
        click.echo(note)


def _many(fuser: Fuser, root: Path, out: Path, suffix: str, save: dict[str, Any]) -> int:
    from pockethdr.runtime.batch import fuse_many
    from pockethdr.runtime.write import save_hdr

    places = _places(fuser, root, out, f".{suffix}")
    left = [folder for folder, place in places.items() if save["overwrite"] or not place.exists()]
    if len(left) < len(places):
        click.echo(f"{len(places) - len(left)} of {len(places)} are there already")

    def saved(folder: Path, image: HDRImage) -> str:
        what = save_hdr(image, places[folder], **save)
        return "\n  ".join([what, *image.notes])

    failed = 0
    for folder, result in fuse_many(fuser, left, saved):
        failed += isinstance(result, PocketError)
        if isinstance(result, PocketError):
            where = "" if str(result).startswith(str(folder)) else f"{folder}: "
            click.echo(f"failed: {where}{result}", err=True)
        else:
            click.echo(f"{places[folder]}: {result}")
    click.echo(f"{len(left) - failed} fused, {failed} failed")
    return FAILED if failed else 0


def _places(fuser: Fuser, root: Path, out: Path, suffix: str) -> dict[Path, Path]:
    """Each bracket under `root` → its file in `out`, under its own path in `root`."""
    from pockethdr.brackets.layout import search

    places: dict[Path, Path] = {}
    found = search(root, domain=fuser.domain)
    for note in found.notes:
        click.echo(note, err=True)
    for folder in found.brackets:
        below = folder.relative_to(root).parent if folder != root else Path()
        whole = folder.resolve()
        name = whole.stem if whole.suffix == ".npz" else whole.name
        place = out / below / f"{name}{suffix}"
        if place in places.values():
            raise BracketError(
                f"two brackets would become {place}", fix=f"rename {folder}, or fuse it by itself"
            )
        places[folder] = place
    return places
