"""`pockethdr demo`: the main job on the bundled sample."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import click

from pockethdr.commands import Size, command_line
from pockethdr.commands.console import stages
from pockethdr.commands.judge import exit_code, print_rows

MODEL, DOMAIN = "dsan-m32", "raw"
PRECISIONS = ("fp16", "int8")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/demo"), show_default=True)
@click.option("--size", type=Size(), default="128x128", show_default=True)
@click.pass_context
def demo(context: click.Context, out: Path, size: tuple[int, int]) -> None:
    """Export, validate and report dsan-m32 on the bundled sample bracket.

    The sample is simulated: three raw exposures with ground truth. A second run skips what is done.

    \b
    Example:
      pockethdr demo
    """
    from pockethdr.brackets.read import find_brackets
    from pockethdr.export.pipeline import export_model
    from pockethdr.export.recipe import DEFAULT_RECIPE, named_recipe
    from pockethdr.export.targets import TARGETS
    from pockethdr.models.load import load_model
    from pockethdr.report.report import write_report
    from pockethdr.report.validate import validate

    with as_file(files("pockethdr.brackets") / "sample") as sample, stages("demo") as stage:
        folders = find_brackets(sample, domain=DOMAIN)
        export_model(
            load_model(MODEL, domain=DOMAIN, weights=None),
            targets=tuple(TARGETS),
            precisions=PRECISIONS,
            bracket_folders=folders,
            out=out,
            size=size,
            recipe=named_recipe(DEFAULT_RECIPE),
            seed=0,
            patches=16,
            # The demo's own folder: other settings than last time are no reason to stop.
            overwrite=True,
            allow_dynamic=False,
            command=command_line(context),
            progress=stage,
        )
        rows = validate(out, folders, progress=stage)
        page = write_report(out, rows)
    print_rows(rows)
    click.echo(f"report: {page}")
    context.exit(exit_code(rows))
