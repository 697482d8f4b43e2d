"""`pockethdr validate`, `report`, `compare`: what each artifact lost, and whether that passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pockethdr.commands import (
    brackets_option,
    command_line,
    model_option,
    ray_option,
    threads_option,
    trust_named,
)
from pockethdr.commands.console import print_table, steps
from pockethdr.files import check_place

if TYPE_CHECKING:
    from pockethdr.report.row import Row
    from pockethdr.runtime.phone.rows import DeviceRow

_out = click.argument("out", type=click.Path(path_type=Path))
_threads = threads_option(default=2, help="CPU threads of the reference and of each runtime.")

GATE_FAILED = 1


@click.command()
@_out
@brackets_option
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows.")
@_threads
@click.option("--arm", is_flag=True, help="Also on emulated ARM code: LiteRT's kernels for phones.")
@ray_option("Judge brackets")
@model_option
@click.pass_context
def validate(
    context: click.Context,
    out: Path,
    brackets: Path,
    json_file: Path | None,
    threads: int,
    arm: bool,
    ray: str | None,
    model: str | None,
) -> None:
    """Run every artifact of OUT on real brackets and judge it against the PyTorch reference.

    Exits with 1 when an artifact fails its threshold. An artifact that this host cannot run is
    listed with the reason, and is neither passed nor failed. With --ray the workers must find OUT
    and the brackets under the same paths; latency is measured in this process all the same.

    \b
    Examples:
      pockethdr validate out/m32 --brackets photos --json rows.json
      pockethdr validate out/m32 --brackets photos --ray local
    """
    from pockethdr.report.validate import validate as judged

    if json_file is not None:
        check_place(json_file, overwrite=True)
    trust_named(model, out)
    with steps("validating") as step:
        rows = judged(
            out,
            [brackets],
            threads=threads,
            json_path=json_file,
            arm=arm,
            ray=ray,
            progress=step,
        )
    print_rows(rows)
    context.exit(exit_code(rows))


@click.command()
@_out
@brackets_option
@_threads
@model_option
@click.pass_context
def report(
    context: click.Context, out: Path, brackets: Path, threads: int, model: str | None
) -> None:
    """Validate OUT and write OUT/report.json and OUT/report.html.

    The page is one file without outside references: the table, what phones measured (`pockethdr
    bench`), accuracy against latency, and crops of reference, artifact and amplified difference.
    Exits with 1 when an artifact fails, here or on a device.

    \b
    Example:
      pockethdr report out/m32 --brackets photos
    """
    from pockethdr.report.devices import of_export
    from pockethdr.report.report import write_report

    trust_named(model, out)
    command = command_line(context)
    with steps("judging") as step:
        found = write_report(out, [brackets], threads=threads, command=command, progress=step)
    print_rows(found.rows)
    click.echo(f"report: {out / 'report.html'}")
    context.exit(exit_code([*found.rows, *of_export(found.devices, found.manifest)]))


@click.command()
@click.argument("outs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path), required=True, help="The page to write.")
@click.option(
    "--brackets", type=click.Path(path_type=Path), help="Also picture each network on these."
)
@click.pass_context
def compare(
    context: click.Context, outs: tuple[Path, ...], html: Path, brackets: Path | None
) -> None:
    """Set the judged exports OUTS side by side on one page.

    Each must have its report, made on the same brackets and host: the figures come from there.
    Exits with 1 when an artifact of any failed.

    \b
    Example:
      pockethdr compare out/m32 out/ahdrnet --brackets photos --html out/compare.html
    """
    from pockethdr.brackets.read import find_brackets
    from pockethdr.report.compare import write_comparison

    check_place(html, overwrite=True)
    shown = find_brackets(brackets) if brackets else []
    rows = write_comparison(outs, html, brackets=shown, command=command_line(context))
    print_rows(rows)
    click.echo(f"comparison: {html}")
    context.exit(exit_code(rows))


def print_rows(rows: Sequence[Row]) -> None:
    """The table of what was judged."""
    from pockethdr.report.terminal import table

    print_table(table(rows))


def exit_code(rows: Sequence[Row | DeviceRow]) -> int:
    return GATE_FAILED if any(row.passed is False for row in rows) else 0
