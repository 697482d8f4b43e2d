"""`pockethdr evaluate`: how good a network is, on brackets with ground truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pockethdr.commands import brackets_option, channel_order_option, domain_option
from pockethdr.commands.console import print_table, steps
from pockethdr.files import check_place, write_bytes

if TYPE_CHECKING:
    from pockethdr.models.evaluate import Compared


@click.command()
@click.argument("model")
@domain_option
@brackets_option
@click.option("--weights", type=click.Path(path_type=Path), help="Instead of those that ship.")
@click.option("--official", is_flag=True, help="256×256 packed tiles, as Mobile-HDR's test.py.")
@channel_order_option
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the scores.")
def evaluate(
    model: str,
    domain: str,
    brackets: Path,
    weights: Path | None,
    official: bool,
    channel_order: str | None,
    json_file: Path | None,
) -> None:
    """Score the network MODEL against ground truth, beside the classical merge.

    \b
    Example:
      pockethdr evaluate dsan-m32 --brackets photos
      pockethdr evaluate dsan-full --weights ema.safetensors --official \\
        --brackets Mobile-HDR/NPZ_data/test_npz
    """
    from pockethdr.brackets.read import find_brackets, read_bracket
    from pockethdr.errors import BracketError
    from pockethdr.export.static import size_multiple
    from pockethdr.models.evaluate import compared
    from pockethdr.models.load import load_model

    if json_file:
        check_place(json_file, overwrite=True)
    module = load_model(model, domain=domain, weights=weights).module
    found = find_brackets(brackets, domain=domain)
    opened = (read_bracket(path, domain=domain, channel_order=channel_order) for path in found)
    multiple, rows = size_multiple(module, domain), []
    with steps("scoring") as step:
        for row in compared(module, opened, official=official, multiple=multiple):
            rows.append(row)
            step(row.bracket, len(rows), len(found))
    if not rows:
        raise BracketError(f"{brackets}: no bracket has a ground truth to score against")
    _print(rows)
    if json_file:
        scores = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
        write_bytes(json_file, scores.encode(), overwrite=True)


def _print(rows: Sequence[Compared]) -> None:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("bracket", "PSNR-µ", "merge", "SSIM-µ", "PSNR-ℓ", "merge", "SSIM-ℓ"):
        table.add_column(heading, justify="left" if heading == "bracket" else "right")
    for row in rows:
        table.add_row(row.bracket, *_cells(row))
    table.add_section()
    count = len(rows)
    means = [sum(column) / count for column in zip(*map(_values, rows), strict=True)]
    table.add_row(f"mean of {count}", *map(_formatted, means))
    print_table(table)


def _values(row: Compared) -> tuple[float, ...]:
    network, merge = row.network, row.merge
    return (
        network.psnr_mu, merge.psnr_mu, network.ssim_mu, network.psnr_l, merge.psnr_l,
        network.ssim_l,
    )  # fmt: skip


def _cells(row: Compared) -> list[str]:
    return [_formatted(value) for value in _values(row)]


def _formatted(value: float) -> str:
    """SSIM to four places, decibels to two."""
    return f"{value:.4f}" if value <= 1 else f"{value:.2f}"
