"""`pockethdr validate` and `pockethdr report`: what each artifact lost, and whether that passes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pockethdr.commands import brackets_option
from pockethdr.commands.console import stages

if TYPE_CHECKING:
    from pockethdr.report.rows import Row

_out = click.argument("out", type=click.Path(path_type=Path))
_threads = click.option("--threads", type=click.IntRange(1), default=1, show_default=True)

GATE_FAILED = 1


@click.command()
@_out
@brackets_option
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows.")
@_threads
@click.pass_context
def validate(
    context: click.Context, out: Path, brackets: Path, json_file: Path | None, threads: int
) -> None:
    """Run every artifact of OUT on real brackets and judge it against the PyTorch reference.

    Exits with 1 when an artifact fails its threshold. An artifact that this host cannot run is
    listed with the reason, and is neither passed nor failed.

    \b
    Example:
      pockethdr validate out/m32 --brackets photos --json rows.json
    """
    rows = _judged(out, brackets, threads)
    if json_file:
        from pockethdr.report.report import write_json

        write_json(rows, json_file)
    print_rows(rows)
    context.exit(exit_code(rows))


@click.command()
@_out
@brackets_option
@_threads
def report(out: Path, brackets: Path, threads: int) -> None:
    """Validate OUT and write OUT/report.json and OUT/report.html.

    The page is one file without outside references: the table, accuracy against latency, and crops
    of reference, artifact and amplified difference.

    \b
    Example:
      pockethdr report out/m32 --brackets photos
    """
    from pockethdr.report.report import write_report

    rows = _judged(out, brackets, threads)
    click.echo(write_report(out, rows))


def print_rows(rows: list[Row]) -> None:
    """The table of what was judged, for a terminal."""
    from rich.console import Console
    from rich.table import Table

    heads = ("target", "precision", "runtime", "PSNR-µ vs reference", "loss µ", "p50 ms", "verdict")
    table = Table(*heads, box=None)
    for row in rows:
        latency = row.latency_ms["p50"] if row.latency_ms else None
        table.add_row(
            row.target,
            row.precision,
            row.runtime or "-",
            _number(row.psnr_mu_vs_reference),
            _number(row.loss_mu_db),
            _number(latency),
            _verdict(row),
        )
    Console().print(table)


def exit_code(rows: list[Row]) -> int:
    return GATE_FAILED if any(row.passed is False for row in rows) else 0


def _judged(out: Path, brackets: Path, threads: int) -> list[Row]:
    from pockethdr.brackets.read import find_brackets
    from pockethdr.export.manifest import read_manifest
    from pockethdr.report.validate import validate as judged

    folders = find_brackets(brackets, domain=read_manifest(out).domain)
    with stages("validating") as stage:
        return judged(out, folders, threads=threads, progress=stage)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _verdict(row: Row) -> str:
    if row.passed is None:
        return f"not judged: {row.reason}"
    return "passed" if row.passed else f"FAILED{f': {row.reason}' if row.reason else ''}"
