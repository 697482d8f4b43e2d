"""`pockethdr calibrate` and `pockethdr export`: from a network to artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pockethdr.commands import (
    Names,
    Number,
    Size,
    brackets_option,
    command_line,
    domain_option,
    precision_names,
    ray_option,
    target_names,
)
from pockethdr.commands.console import stages
from pockethdr.commands.exported import print_manifest, write_chosen, write_found
from pockethdr.export.recipe import METHODS
from pockethdr.files import check_folder, check_place

if TYPE_CHECKING:
    from pockethdr.calibration.calibration import Calibration
    from pockethdr.export.auto_methods import Chosen
    from pockethdr.export.pipeline import PartialExportError
    from pockethdr.export.recipe import Recipe
    from pockethdr.export.search import Found
    from pockethdr.models.load import Loaded

AUTO = "auto"

_model = click.argument("model")
_weights = click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="A .safetensors file; without it, the ones shipped with a named network.",
)
_size = click.option(
    "--size",
    type=Size(),
    default="256x256",
    show_default=True,
    help="Height and width of a tile; for raw in packed pixels, half the sensor's.",
)
_patches = click.option(
    "--max-patches",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Calibration patches of a bracket.",
)
_seed = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the choice of patches.",
)
_ray = ray_option("Calibrate")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace what is there.")
_allow_dynamic = click.option(
    "--allow-dynamic",
    is_flag=True,
    help="Go on although a dynamic operation could not be made static; it runs slowly.",
)


@click.command()
@_model
@_weights
@domain_option
@brackets_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="calibration.json")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="Also print the range that this method chooses for every tensor.",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE.json",
    help="Only one that scales the inputs (input_gains) counts here: their ranges are its own.",
)
@_size
@_patches
@_seed
@_ray
@_overwrite
@_allow_dynamic
def calibrate(
    model: str,
    weights: Path | None,
    domain: str,
    brackets: Path,
    out: Path,
    method: str | None,
    recipe: str | None,
    size: tuple[int, int],
    max_patches: int,
    seed: int,
    ray: str | None,
    overwrite: bool,
    allow_dynamic: bool,
) -> None:
    """Record the range and histogram of every tensor of MODEL over a set of brackets.

    The same brackets and seed give the same file, byte for byte. How ranges are chosen from it is
    decided later, by the export's recipe.

    \b
    Example:
      pockethdr calibrate dsan-m32 --brackets photos --out calibration.json --method percentile
    """
    from pockethdr.brackets.read import find_brackets
    from pockethdr.calibration.spread import calibrator
    from pockethdr.export.identity import state_sha256
    from pockethdr.export.input_gains import with_input_gains
    from pockethdr.export.materials import frames_of
    from pockethdr.export.placement import handed_on_below_zero
    from pockethdr.export.static import static_program
    from pockethdr.models.load import load_model

    check_place(out, overwrite)
    gains = named_or_file(recipe).input_gains if recipe else ()
    loaded = load_model(model, domain=domain, weights=weights)
    folders = find_brackets(brackets, domain=domain)
    with stages("calibrating") as stage:
        stage("tracing and rewriting")
        program = static_program(loaded, size=size, allow_dynamic=allow_dynamic).program
        program = with_input_gains(program, gains)
        found = calibrator(ray)(
            program,
            folders,
            seed=seed,
            tile=size,
            patches_per_bracket=max_patches,
            read=partial(frames_of, domain=domain),
            progress=stage,
        )
    found = replace(found, values_sha256=state_sha256(loaded))
    found.save(out, overwrite=overwrite)
    click.echo(f"{out}: {len(found.tensors)} tensors over {len(folders)} brackets")
    if method is not None:
        ranges = found.ranges(method, below=handed_on_below_zero(program))
        for name, chosen in ranges.items():
            click.echo(f"{name:40s} {chosen.low:+.6g} .. {chosen.high:+.6g}")


@click.command()
@_model
@_weights
@domain_option
@brackets_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The output folder.")
@click.option(
    "--targets",
    type=Names("target", target_names),
    default="onnx,tflite,coreml,tensorrt",
    show_default=True,
    help="The formats to write; `pockethdr doctor` says which this host can build and run.",
)
@click.option(
    "--precisions",
    type=Names("precision", precision_names),
    default="fp16,int8",
    show_default=True,
    help="One or more of fp32, fp16, int8, and dynint8 (TFLite and ONNX): integer weights, and the "
    "ranges of activations measured at run time, so that nothing is calibrated.",
)
@click.option(
    "--recipe",
    help="What stays float in INT8: a named recipe, or a JSON file. "
    "Default: the one that tuned weights were made for, else hdr.",
)
@click.option(
    "--method",
    type=click.Choice((*METHODS, AUTO)),
    help="How ranges are chosen, instead of the recipe's way. `auto` picks for each tensor what "
    "costs least at the output, and writes OUT/recipe.json. Needs --recipe.",
)
@click.option(
    "--tuned",
    type=click.Path(path_type=Path),
    help="Weights of `pockethdr finetune` for the INT8 artifacts; "
    "without it, the ones shipped with a named network.",
)
@click.option(
    "--max-loss",
    type=Number(min=0, min_open=True),
    help="Search the recipe whose INT8 loses at most this many dB against ground truth, in PSNR-µ "
    "and in PSNR-ℓ; writes OUT/recipe.json. Exits with 1 when none does. Takes two brackets with "
    "ground truth or more, such as `pockethdr simulate` makes.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="A file of `calibrate` or of an earlier export of this network, at any size; "
    "without it, INT8 is calibrated on the brackets.",
)
@click.option(
    "--size",
    "sizes",
    metavar="HxW",
    type=Size(),
    multiple=True,
    default=["256x256"],
    show_default="256x256",
    help="Height and width of a tile; for raw in packed pixels, half the sensor's. Given several "
    "times, each size is exported into a folder HxW of --out, all with one calibration.",
)
@_patches
@_seed
@_ray
@_overwrite
@_allow_dynamic
@click.pass_context
def export(
    context: click.Context,
    model: str,
    weights: Path | None,
    domain: str,
    brackets: Path,
    out: Path,
    targets: tuple[str, ...],
    precisions: tuple[str, ...],
    recipe: str | None,
    method: str | None,
    tuned: Path | None,
    max_loss: float | None,
    calibration: Path | None,
    sizes: tuple[tuple[int, int], ...],
    max_patches: int,
    seed: int,
    ray: str | None,
    overwrite: bool,
    allow_dynamic: bool,
) -> None:
    """Make MODEL static, prove it, calibrate it, and write one artifact per target and precision.

    MODEL is a name from `pockethdr models`, or your own package.module:factory or
    file.py:factory. A second run skips what is already there; a killed one is taken up again.

    \b
    Examples:
      pockethdr export dsan-m32 --brackets photos --out out/m32
      pockethdr export mynet.py:build --weights mynet.safetensors --domain rgb \\
          --targets tflite,coreml --precisions fp16,int8 --brackets photos --out out/mynet
      pockethdr export ahdrnet-mobile --max-loss 0.1 --brackets photos --out out/ahdrnet
      pockethdr export ahdrnet-mobile --recipe out/ahdrnet/recipe.json --brackets photos --out b
      pockethdr export ahdrnet-mobile --recipe hdr --method auto --brackets photos --out out/auto
      pockethdr export dsan-m32 --brackets photos --size 256x256 --size 552x720 --out out/m32
    """
    from pockethdr.brackets.read import find_brackets
    from pockethdr.calibration.calibration import Calibration
    from pockethdr.export.tuned import chosen_recipe
    from pockethdr.models.load import load_model

    _check_options(precisions, recipe, method, max_loss)
    check_folder(out)
    known = Calibration.load(calibration) if calibration else None
    loaded = load_model(model, domain=domain, weights=weights)
    wanted = named_or_file(recipe) if recipe else None
    if wanted and method not in (None, AUTO):
        wanted = replace(wanted, name=f"{wanted.name}-{method}", method=str(method), methods={})
    chosen, tuning = chosen_recipe(loaded, wanted, tuned)
    folders = find_brackets(brackets, domain=domain)
    # Smallest first: a size that is too small is refused before anything is made.
    sizes = tuple(sorted(set(sizes), key=lambda size: (min(size), size)))
    of_both = {"tuned": tuning, "allow_dynamic": allow_dynamic}
    trial = {"brackets": folders, "size": sizes[0], **of_both}
    found = best = None
    if method == AUTO:
        best = _best_ranges(loaded, chosen, trial)
        chosen = best.recipe
    if max_loss is not None:
        found = _searched(loaded, max_loss, wanted, out, trial)
        chosen = found.recipe
    settings = {
        "targets": targets,
        "precisions": precisions,
        "bracket_folders": folders,
        "recipe": chosen,
        "seed": seed,
        "patches": max_patches,
        "overwrite": overwrite,
        "ray": ray,
        "command": command_line(context),
        **of_both,
    }
    refused = _export_sizes(loaded, sizes, out, known, settings)
    if best is not None:
        write_chosen(best, out)
    if found is not None:
        write_found(found, out)
    if refused is not None:
        raise refused
    context.exit(0 if found is None or found.met else 1)


def _best_ranges(loaded: Loaded, base: Recipe, trial: dict[str, Any]) -> Chosen:
    """`base` with the method that costs least at the output for each tensor."""
    from pockethdr.export.auto_methods import recipe_by_output
    from pockethdr.export.rehearsal import rehearsal

    with stages("choosing ranges") as stage:
        ready = rehearsal(loaded, base, say=stage, **trial)
        return recipe_by_output(ready, base, say=stage)


def _searched(
    loaded: Loaded, max_loss: float, base: Recipe | None, out: Path, trial: dict[str, Any]
) -> Found:
    """The recipe that keeps as little in float as `max_loss` allows."""
    from pockethdr.export.max_loss import recipe_for_loss

    cache = out / ".cache" / "search.json"
    with stages("searching") as stage:
        return recipe_for_loss(
            loaded, max_loss=max_loss, cache=cache, base=base, say=stage, **trial
        )


def _export_sizes(
    loaded: Loaded,
    sizes: Sequence[tuple[int, int]],
    out: Path,
    calibration: Calibration | None,
    settings: dict[str, Any],
) -> PartialExportError | None:
    """Into `out`, or each of several sizes into a folder of its own, all with one calibration.

    Returns:
        the first refusal of some of the targets, after all sizes.
    """
    from pockethdr.calibration.calibration import Calibration
    from pockethdr.export.materials import CALIBRATION_NAME
    from pockethdr.export.pipeline import PartialExportError, export_model

    refused = None
    for size in sizes:
        place = out / f"{size[0]}x{size[1]}" if len(sizes) > 1 else out
        with stages("exporting") as stage:
            how = {"calibration": calibration, "progress": stage, **settings}
            try:
                manifest = export_model(loaded, out=place, size=size, **how)
            except PartialExportError as error:
                manifest, refused = error.manifest, refused or error
        print_manifest(manifest, place)
        if calibration is None and manifest.calibration:
            calibration = Calibration.load(place / CALIBRATION_NAME)
    return refused


def _check_options(
    precisions: tuple[str, ...], recipe: str | None, method: str | None, max_loss: float | None
) -> None:
    if max_loss is not None and "int8" not in precisions:
        raise click.UsageError("--max-loss is of INT8: add int8 to --precisions")
    if method is not None and recipe is None:
        raise click.UsageError("--method changes a recipe: name one, such as --recipe hdr")
    if method == AUTO and max_loss is not None:
        raise click.UsageError(
            "--method auto and --max-loss are two searches: run one, then the other with "
            "--recipe OUT/recipe.json"
        )


def named_or_file(name: str) -> Recipe:
    """A recipe by its name, or read from a `.json` file."""
    from pockethdr.export.recipe import RecipeError, named_recipe, recipe_from_json

    if not name.endswith(".json"):
        return named_recipe(name)
    try:
        return recipe_from_json(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{name}: not readable ({error})", expected="a JSON file") from error
