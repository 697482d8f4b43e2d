"""`pockethdr calibrate` and `pockethdr export`: from a network to artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pockethdr.commands import (
    Names,
    Size,
    brackets_option,
    command_line,
    domain_option,
    precision_names,
    target_names,
)
from pockethdr.commands.console import stages

if TYPE_CHECKING:
    from pockethdr.export.manifest import Artifact, Manifest
    from pockethdr.export.recipe import Recipe
    from pockethdr.export.search import Found

#: Fewer than this to confirm a recipe, and a single unusual scene decides.
ENOUGH_BRACKETS = 6
METHODS = ("minmax", "percentile", "mse", "entropy")

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
    help="Of the network's grid; for raw that is half the sensor's rows and columns.",
)
_patches = click.option(
    "--max-patches",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Calibration patches of a bracket.",
)
_seed = click.option("--seed", default=0, show_default=True, help="Of the choice of patches.")
_ray = click.option(
    "--ray",
    metavar="local|ADDRESS",
    help="Calibrate on a Ray cluster: `local` for the cores of this machine. Same result.",
)
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
    from pockethdr.export.static import static_program
    from pockethdr.models.load import load_model

    loaded = load_model(model, domain=domain, weights=weights)
    folders = find_brackets(brackets, domain=domain)
    with stages("calibrating") as stage:
        stage("tracing and rewriting")
        program = static_program(loaded, size=size, allow_dynamic=allow_dynamic).program
        found = calibrator(ray)(
            program,
            folders,
            seed=seed,
            tile=size,
            patches_per_bracket=max_patches,
            progress=stage,
        )
    found.save(out, overwrite=overwrite)
    click.echo(f"{out}: {len(found.tensors)} tensors over {len(folders)} brackets")
    for name, chosen in (found.ranges(method) if method else {}).items():
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
)
@click.option(
    "--precisions",
    type=Names("precision", precision_names),
    default="fp16,int8",
    show_default=True,
    help="Of fp32, fp16, int8, and dynint8 (TFLite and ONNX): integer weights, with the ranges of "
    "activations measured at run time, so that nothing is calibrated.",
)
@click.option(
    "--recipe",
    help="What stays float in INT8: a named recipe, or a JSON file. "
    "Default: the one that tuned weights were made for, else hdr.",
)
@click.option(
    "--tuned",
    type=click.Path(path_type=Path),
    help="Weights of `pockethdr finetune` for the INT8 artifacts; "
    "without it, the ones shipped with a named network.",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0, min_open=True),
    help="Search the recipe whose INT8 loses at most this many dB against ground truth, in PSNR-µ "
    "and in PSNR-ℓ; writes OUT/recipe.json. Exits with 1 when none does.",
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
    type=Size(),
    multiple=True,
    default=["256x256"],
    show_default="256x256",
    help="Of the network's grid; for raw that is half the sensor's rows and columns. Given several "
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
      pockethdr export dsan-m32 --brackets photos --size 256x256 --size 552x720 --out out/m32
    """
    from pockethdr.brackets.read import find_brackets
    from pockethdr.calibration.calibration import Calibration
    from pockethdr.export.max_loss import recipe_for_loss
    from pockethdr.export.pipeline import CALIBRATION_NAME, export_model
    from pockethdr.export.tuned import chosen_recipe
    from pockethdr.models.load import load_model

    if max_loss is not None and "int8" not in precisions:
        raise click.UsageError("--max-loss is of INT8: add int8 to --precisions")
    loaded = load_model(model, domain=domain, weights=weights)
    wanted = named_or_file(recipe) if recipe else None
    chosen, tuning = chosen_recipe(loaded, wanted, tuned)
    folders = find_brackets(brackets, domain=domain)
    # Smallest first: a size that is too small is refused before anything is made.
    sizes = tuple(sorted(set(sizes), key=lambda size: (min(size), size)))
    places = {size: out / f"{size[0]}x{size[1]}" if len(sizes) > 1 else out for size in sizes}
    known = Calibration.load(calibration) if calibration else None
    found: Found | None = None
    if max_loss is not None:
        with stages("searching") as stage:
            found = recipe_for_loss(
                loaded,
                max_loss=max_loss,
                brackets=folders,
                size=sizes[0],
                cache=out / ".cache" / "search.json",
                base=wanted,
                tuned=tuning,
                allow_dynamic=allow_dynamic,
                say=stage,
            )
        chosen = found.recipe
    for size, place in places.items():
        with stages("exporting") as stage:
            manifest = export_model(
                loaded,
                targets=targets,
                precisions=precisions,
                bracket_folders=folders,
                out=place,
                size=size,
                recipe=chosen,
                seed=seed,
                patches=max_patches,
                overwrite=overwrite,
                allow_dynamic=allow_dynamic,
                tuned=tuning,
                ray=ray,
                calibration=known,
                command=command_line(context),
                progress=stage,
            )
        print_manifest(manifest, place)
        if known is None and manifest.calibration:
            known = Calibration.load(place / CALIBRATION_NAME)
    if found is not None:
        write_found(found, out)
        context.exit(0 if found.met else 1)


def print_manifest(manifest: Manifest, out: Path) -> None:
    """What was built and what was not, one line each."""
    for artifact in manifest.artifacts:
        click.echo(f"{artifact.target:9s} {artifact.precision:7s} {_outcome(artifact)}")
    if manifest.tuned:
        click.echo(f"int8 from {manifest.tuned['file']}, tuned for `{manifest.tuned['recipe']}`")
    dynamic = f", {len(manifest.refusals)} places refused" if manifest.refusals else ""
    click.echo(f"{len(manifest.rewrites)} rewrites, each proved{dynamic}; {out / 'manifest.json'}")


def write_found(found: Found, out: Path) -> None:
    """Say what went back to float and why; recipe, account and picture into `out`."""
    import json

    from pockethdr.export.manifest import write_bytes
    from pockethdr.report.sensitivity import picture

    files = {
        "recipe.json": json.dumps(found.recipe.to_json(), indent=1) + "\n",
        "search.json": json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n",
        "sensitivity.svg": picture(found),
    }
    for name, text in files.items():
        write_bytes(out / name, text.encode(), overwrite=True)
    for reverted in found.reverted:
        click.echo(f"float: {reverted.group} ({reverted.why})")
    many, unseen = len(found.searched_on), len(found.confirmed_on)
    for what, loss in (("before", found.before), ("after", found.after)):
        click.echo(
            f"{what:6s}  µ {loss.mu_db:+.3f} dB  ℓ {loss.l_db:+.3f} dB on the {many} searched"
        )
    verdict = "met" if found.met else "NOT met"
    click.echo(
        f"--max-loss {found.max_loss:g} {verdict}: µ {found.confirmed.mu_db:+.3f} dB, "
        f"ℓ {found.confirmed.l_db:+.3f} dB on {unseen} brackets that the search did not see "
        "(simulated)"
    )
    if not found.met:
        click.echo("this is the best found; try a lower --max-loss, more brackets, or finetune")
    if unseen < ENOUGH_BRACKETS:
        click.echo(
            f"{unseen} brackets say little of others: give {2 * ENOUGH_BRACKETS} with ground truth "
            "or more, half of which confirm"
        )
    click.echo(f"recipe: {out / 'recipe.json'}; picture: {out / 'sensitivity.svg'}")


def _outcome(artifact: Artifact) -> str:
    if artifact.file is None:
        return f"skipped: {artifact.skipped}"
    foreign = artifact.checks.get("ranges", {}).get("foreign")
    wrong = f"; NOT as imposed: {foreign[0]}, …" if foreign else ""
    return f"{artifact.file} ({(artifact.size_bytes or 0) / 1024:.0f} KiB){wrong}"


def named_or_file(name: str) -> Recipe:
    """A recipe by its name, or read from a `.json` file."""
    from pockethdr.export.recipe import RecipeError, named_recipe, recipe_from_json

    if not name.endswith(".json"):
        return named_recipe(name)
    try:
        return recipe_from_json(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{name}: not readable ({error})", expected="a JSON file") from error
