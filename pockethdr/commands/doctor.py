"""`pockethdr doctor`: the host's abilities as a table."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

import click

from pockethdr.commands.console import print_table

if TYPE_CHECKING:
    from pockethdr.doctor import Ability, Diagnosis


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def doctor(as_json: bool) -> None:
    """Show what this host can build and run, and the install line for what it cannot.

    \b
    Example:
      pockethdr doctor
    """
    from pockethdr.doctor import diagnose

    found = diagnose()
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        _print(found)


def _print(found: Diagnosis) -> None:
    from rich.table import Table

    for name, value in found.machine.items():
        click.echo(f"{name:14s} {'unknown' if value is None else value}")
    table = Table("target", "precisions", "build", "run", box=None)
    for (target, build, run), lines in groupby(found.lines, lambda x: (x.target, x.build, x.run)):
        table.add_row(target, " ".join(x.precision for x in lines), _cell(build), _cell(run))
    print_table(table)
    for name, value in found.versions.items():
        click.echo(f"{name:28s} {value or 'not installed'}")


def _cell(ability: Ability) -> str:
    from rich.markup import escape

    return escape(f"{'yes' if ability.works else 'no'}: {ability.detail}")
