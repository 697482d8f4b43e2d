"""One bar a layer, in the order of the network, as a picture that stands alone (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

_ROW, _TOP, _LEFT, _PLOT, _RIGHT = 17, 74, 330, 430, 90
_STYLE = """
svg { background: #fbfaf8; font: 12px system-ui, -apple-system, "Segoe UI", Arial, sans-serif; }
.title { font-size: 15px; font-weight: 600; fill: #1d1d1b; } .note { fill: #66645f; }
.name { fill: #1d1d1b; } .op, .tick, .value { fill: #66645f; font-variant-numeric: tabular-nums; }
.grid { stroke: #e2dfd9; } .mark { fill: none; stroke: #1d1d1b; stroke-width: 2; }
.int8 { fill: #c0621a; } .float { fill: #5b6bb0; } .kept { fill: #1f8a94; }
"""


@dataclass(frozen=True)
class Bar:
    """One row: what it is, how long its bar is, and what is written behind it.

    Attributes:
        style: `int8`, `float` or `kept`, which colour it.
        mark: a second value, drawn as a tick across the bar; None for none.
    """

    name: str
    op: str
    value: float
    style: str
    note: str
    mark: float | None = None


def bars(rows: Sequence[Bar], *, title: str, note: str, unit: str, most: float) -> str:
    """The picture.

    Args:
        title, note: above it.
        unit: of the values, for the axis.
        most: where the axis ends; longer bars are cut there.
    """
    height, width = _TOP + _ROW * len(rows) + 16, _LEFT + _PLOT + _RIGHT
    parts = [
        _text(14, 24, title, "title"),
        _text(14, 44, note, "note"),
        *_axis(most, unit, height),
    ]
    for index, row in enumerate(rows):
        parts += _row(row, _TOP + index * _ROW, most)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label={quoteattr(title)}>'
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}" fill="#fbfaf8"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def _axis(most: float, unit: str, height: int) -> list[str]:
    parts = []
    for step in range(5):
        x = _LEFT + _PLOT * step / 4
        parts.append(f'<line class="grid" x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{height - 12}"/>')
        label = f"{most * step / 4:.3g}" + (f" {unit}" if step == 4 else "")
        parts.append(_text(x, _TOP - 13, label, "tick", "middle"))
    return parts


def _row(row: Bar, y: float, most: float) -> list[str]:
    length = _length(row.value, most)
    base = y + _ROW - 5
    parts = [
        _text(14, base, row.name, "name"),
        _text(_LEFT - 10, base, row.op, "op", "end"),
        f'<rect class={quoteattr(row.style)} x="{_LEFT}" y="{y + 2}" width="{length:.1f}" '
        f'height="{_ROW - 5}" rx="2"/>',
        _text(_LEFT + max(length, _length(row.mark or 0, most)) + 6, base, row.note, "value"),
    ]
    if row.mark is not None:
        x = _LEFT + _length(row.mark, most)
        parts.append(f'<path class="mark" d="M{x:.1f} {y + 1}v{_ROW - 3}"/>')
    return parts


def _length(value: float, most: float) -> float:
    return _PLOT * min(max(value / most, 0.0), 1.0)


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
