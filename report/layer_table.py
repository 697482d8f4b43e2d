"""How a comparison of layers is shown: a table for the terminal, a picture for the folder."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from pockethdr.report.bars import Bar, bars
from pockethdr.report.layers import Layer, Layers
from pockethdr.runtime.agreement import IDENTICAL_DB

_MOST_DB = 80.0


def layer_table(found: Layers, *, top: int) -> Table:
    """The `top` layers whose own error is largest, worst first, 80 columns wide."""
    made = Table(
        box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left"
    )
    for header in ("module", "node"):
        made.add_column(header, no_wrap=True)
    for header in ("own", "SQNR", "cosine", "range", "clipped"):
        made.add_column(header, justify="right", no_wrap=True)
    shown = found.worst_first[:top]
    for layer in shown:
        made.add_row(
            escape(layer.module or "–"),
            escape(layer.node),
            _decibel(layer.own_db),
            _decibel(layer.sqnr_db),
            f"{layer.cosine:.4f}",
            _share(layer.range_used, 0),
            _share(layer.clipped, 2),
        )
    made.caption = escape(_caption(found, len(shown)))
    return made


def layer_picture(found: Layers) -> str:
    """All layers in order: a bar for the layer's own SQNR, a tick for that with all before it."""
    rows = [
        Bar(
            layer.module or layer.node,
            layer.op if layer.module else "",
            layer.own_db,
            layer.precision,
            _note(layer),
            layer.sqnr_db,
        )
        for layer in found.layers
    ]
    return bars(
        rows,
        title=f"{found.model}, {found.target} {found.precision}: signal over error of each layer",
        note="bar: of the layer alone; tick: with the errors before it; orange int8, blue float",
        unit="dB",
        most=_MOST_DB,
    )


def _caption(found: Layers, shown: int) -> str:
    hidden = len(found.layers) - shown
    rest = f"{hidden} better layers not listed; " if hidden else ""
    return (
        f"{rest}{found.tiles} tiles; {found.runtime}\n"
        "own: dB of the layer alone, on the artifact's inputs; SQNR: with all errors before it;\n"
        "range: of the 256 codes; clipped: values outside it\n"
        f"{found.unmatched} tensors of the file only move values or have no counterpart"
    )


def _note(layer: Layer) -> str:
    shown = layer.own_db < IDENTICAL_DB and (layer.clipped or 0) > 0.0005
    clipped = f", {layer.clipped:.1%} clipped" if shown else ""
    return _decibel(layer.own_db) + clipped


def _decibel(value: float) -> str:
    return "equal" if value >= IDENTICAL_DB else f"{value:.1f}"


def _share(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}%}"
