"""The table that the command line prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from pockethdr.report.row import IDENTICAL_DB, Row

_VERDICTS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "[yellow]not run[/]"}


def table(rows: Sequence[Row]) -> Table:
    """One line an artifact; what was not measured is a dash, with the reason in the last column."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("artifact", no_wrap=True)
    made.add_column("verdict", no_wrap=True)
    headers = ("PSNR-µ vs ref", "PSNR-µ", "PSNR-ℓ", "loss µ", "loss ℓ", "p50 ms", "MB", "peak MB")
    for header in headers:
        made.add_column(header, justify="right")
    made.add_column("runtime / why not")
    for row in rows:
        made.add_row(row.name, _VERDICTS[row.passed], *figures(row), escape(_note(row)))
    return made


def figures(row: Row) -> list[str]:
    """The figures of a row, in the order of the table, as text."""
    p50 = row.latency_ms["p50"] if row.latency_ms else None
    size = row.size_bytes / 1e6 if row.size_bytes is not None else None
    return [
        decibel(row.psnr_mu_vs_reference),
        decibel(row.psnr_mu),
        decibel(row.psnr_l),
        change(row.loss_mu_db),
        change(row.loss_l_db),
        _number(p50, ".2f" if p50 is not None and p50 < 10 else ".1f"),
        _number(size, ".2f"),
        _number(row.peak_memory_mb, ".0f"),
    ]


def decibel(value: float | None) -> str:
    """`43.21`, `identical`, or a dash."""
    return "identical" if value is not None and value >= IDENTICAL_DB else _number(value, ".2f")


def change(value: float | None) -> str:
    """`+0.03`, `−1.20`, `0.00`, or a dash."""
    text = _number(value, "+.2f").replace("-", "−")
    return text[1:] if text in ("+0.00", "−0.00") else text


def _number(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)


def _note(row: Row) -> str:
    return "; ".join(part for part in (row.runtime, row.reason) if part)
