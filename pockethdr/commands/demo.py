"""`pockethdr demo`: the main job on the bundled sample, for one network of each kind."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import click

from pockethdr.commands import Names, Size, command_line, network_names
from pockethdr.commands.console import stages, steps
from pockethdr.commands.judge import exit_code, print_rows

DOMAIN = "raw"
MODELS = "dsan-m32,ahdrnet-mobile,deephdr-mobile,nhdrrnet-mobile"
PRECISIONS = ("fp16", "int8")


@click.command()
@click.option(
    "--models",
    type=Names("network", network_names),
    default=MODELS,
    show_default=True,
    help="Networks of `pockethdr models`.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/demo"),
    show_default=True,
    help="The folder of the report, with one for each network in it.",
)
@click.option(
    "--size",
    type=Size(),
    default="256x256",
    show_default=True,
    help="Height and width of a tile, packed pixels.",
)
@click.pass_context
def demo(context: click.Context, models: tuple[str, ...], out: Path, size: tuple[int, int]) -> None:
    """Export, validate and compare four networks on the bundled sample bracket.

    The sample is simulated: three raw exposures with ground truth. Each network gets its own folder
    and report in OUT, and OUT/report.html sets them side by side. A second run skips what is done.

    \b
    Examples:
      pockethdr demo
      pockethdr demo --models dsan-m32
    """
    from pockethdr.report.compare import write_comparison

    command, outs = command_line(context), [out / name for name in models]
    with as_file(files("pockethdr.brackets") / "sample") as sample:
        for name, folder in zip(models, outs, strict=True):
            _export(name, sample, folder, size, command)
            _judge(name, sample, folder, command)
        page = out / "report.html"
        rows = write_comparison(outs, page, brackets=[sample], command=command)
    print_rows(rows)
    click.echo(f"report: {page}")
    context.exit(exit_code(rows))


def _export(name: str, sample: Path, out: Path, size: tuple[int, int], command: str) -> None:
    from pockethdr.brackets.read import find_brackets
    from pockethdr.export.pipeline import export_model
    from pockethdr.export.targets import TARGETS
    from pockethdr.models.load import load_model

    loaded = load_model(name, domain=DOMAIN, weights=None)
    with stages(f"exporting {name}") as stage:
        export_model(
            loaded,
            targets=tuple(TARGETS),
            precisions=PRECISIONS,
            bracket_folders=find_brackets(sample, domain=DOMAIN),
            out=out,
            size=size,
            # The demo's own folder: other settings than last time are no reason to stop.
            overwrite=True,
            command=command,
            progress=stage,
        )


def _judge(name: str, sample: Path, out: Path, command: str) -> None:
    from pockethdr.commands.cached import is_judged, remember
    from pockethdr.report.report import write_report

    if is_judged(out, sample):
        return
    with steps(f"judging {name}") as step:
        write_report(out, [sample], command=command, progress=step)
    remember(out, sample)
