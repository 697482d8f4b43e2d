"""`pockethdr debug`: which layer of an artifact loses what."""

from __future__ import annotations

from pathlib import Path

import click

from pockethdr.commands import brackets_option, model_option, trust_named
from pockethdr.commands.console import print_table, stages
from pockethdr.files import check_place, write_bytes

#: Those of `runtime.taps.TAPPED` and of `export.targets`, which take their time to import.
TARGETS = ("tflite", "onnx", "coreml")
PRECISIONS = ("fp32", "fp16", "int8", "dynint8")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--target", type=click.Choice(TARGETS), required=True, help="Whose artifact to look into."
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="int8",
    show_default=True,
    help="Which of the target's artifacts to look into.",
)
@brackets_option
@click.option(
    "--max-patches",
    "patches",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Tiles of a bracket: the brightest ones and the one that moves most come first.",
)
@click.option("--top", type=click.IntRange(1), default=15, show_default=True, help="Layers listed.")
@click.option(
    "--tuned",
    type=click.Path(path_type=Path),
    help="The tuned weights that the export was given, where they do not ship with the network.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write all layers.")
@model_option
def debug(
    out: Path,
    target: str,
    precision: str,
    brackets: Path,
    patches: int,
    top: int,
    tuned: Path | None,
    json_file: Path | None,
    model: str | None,
) -> None:
    """Compare an artifact of OUT with its float program, layer by layer, on real brackets.

    Lists the layers that lose most, worst first, and writes OUT/debug_TARGET_PRECISION.svg, which
    shows all of them. `own` is the error of a layer alone: its tensor in the artifact against the
    float operation on the artifact's own inputs; SQNR has all errors before it, too.

    \b
    Example:
      pockethdr debug out/m32 --target tflite --brackets photos
    """
    import json

    from pockethdr.report.layer_table import layer_picture, layer_table
    from pockethdr.report.layers import debug as compared

    picture = out / f"debug_{target}_{precision}.svg"
    check_place(picture, overwrite=True)
    if json_file is not None:
        check_place(json_file, overwrite=True)
    trust_named(model, out)
    with stages("debugging") as stage:
        stage(f"running {target} {precision} and its float program")
        found = compared(
            out, [brackets], target=target, precision=precision, patches=patches, tuned=tuned
        )
    write_bytes(picture, layer_picture(found).encode(), overwrite=True)
    if json_file is not None:
        text = json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n"
        write_bytes(json_file, text.encode(), overwrite=True)
    print_table(layer_table(found, top=top))
    click.echo(f"picture: {picture}")
