"""The table that the command line prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from pockethdr.report.row import Row
from pockethdr.runtime.agreement import IDENTICAL_DB

_VERDICTS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "[yellow]not run[/]"}


def table(rows: Sequence[Row]) -> Table:
    """One line an artifact, 80 columns wide; below, what ran each and what was not measured.

    Rows of several networks stand under the name of each.
    """
    made = Table(
        box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left"
    )
    for header in ("artifact", "verdict"):
        made.add_column(header, no_wrap=True)
    for header in ("vs ref", "PSNR-µ", "PSNR-ℓ", "Δ µ", "Δ ℓ", "ms", "MB", "peak MiB"):
        made.add_column(header, justify="right", no_wrap=True)
    several = len({row.model for row in rows}) > 1
    for model, group in groupby(rows, lambda row: row.model):
        if several:
            made.add_row(f"[bold]{escape(model)}[/]")
        for row in group:
            made.add_row(row.name, _VERDICTS[row.passed], *figures(row))
    made.caption = escape("\n".join(_notes(rows)))
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


def _notes(rows: Sequence[Row]) -> list[str]:
    """`onnx fp16, onnx int8: ONNX Runtime …`, alike notes together."""
    owners: dict[str, list[str]] = {}
    for row in rows:
        note = "; ".join(part for part in (row.runtime, row.reason) if part)
        owners.setdefault(note, []).append(row.name)
    named = ((", ".join(dict.fromkeys(names)), note) for note, names in owners.items())
    return [f"{names}: {note}" for names, note in named if note]
