"""Accuracy against latency, as SVG text: logarithmic milliseconds across, decibels up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from pockethdr.report.row import IDENTICAL_DB, Row
from pockethdr.report.thresholds import Thresholds

WIDTH, HEIGHT = 600, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 586, 16, 332
#: Identical outputs have no finite PSNR; they are drawn at the top edge of the plot.
_HIGHEST_DB = 120.0
_CHARACTER, _LINE = 6.6, 15


@dataclass(frozen=True)
class _Axes:
    """Decades of milliseconds and decibels that the plot spans."""

    fastest: float
    slowest: float
    lowest_db: float
    highest_db: float

    def x(self, milliseconds: float) -> float:
        low, high = math.log10(self.fastest), math.log10(self.slowest)
        share = (math.log10(milliseconds) - low) / (high - low)
        return _LEFT + share * (_RIGHT - _LEFT)

    def y(self, decibels: float) -> float:
        share = (decibels - self.lowest_db) / (self.highest_db - self.lowest_db)
        return _BOTTOM - min(share, 1.0) * (_BOTTOM - _TOP)


@dataclass(frozen=True)
class _Point:
    row: Row
    milliseconds: float
    decibels: float


def scatter(rows: Sequence[Row], thresholds: Thresholds) -> str:
    """An <svg> of the rows that have both figures; empty text when none has."""
    points = [
        _Point(row, row.latency_ms["p50"], row.psnr_mu_vs_reference)
        for row in rows
        if row.latency_ms and row.psnr_mu_vs_reference is not None
    ]
    if not points:
        return ""
    bounds = {row.row.precision: thresholds.of(row.row.precision) for row in points}
    axes = _axes(points, list(bounds.values()))
    parts = [
        *_horizontal_axis(axes),
        *_vertical_axis(axes),
        *_gates(axes, bounds),
        *_marks(axes, points, set(bounds.values())),
    ]
    title = "PSNR-µ against the reference over median latency, one point an artifact"
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        + "".join(parts)
        + "</svg>"
    )


def _axes(points: Sequence[_Point], bounds: Sequence[float]) -> _Axes:
    times = [point.milliseconds for point in points]
    levels = [min(point.decibels, _HIGHEST_DB) for point in points] + list(bounds)
    # At least a factor of ten, so that the axis has ticks and noise does not look like a trend.
    margin = max(1.4, math.sqrt(10 * min(times) / max(times)))
    return _Axes(
        min(times) / margin,
        max(times) * margin,
        10 * math.floor((min(levels) - 4) / 10),
        10 * math.ceil((max(levels) + 4) / 10),
    )


def _horizontal_axis(axes: _Axes) -> list[str]:
    ticks = [
        step * 10.0**power
        for power in range(math.floor(math.log10(axes.fastest)), 6)
        for step in (1, 2, 5)
        if axes.fastest <= step * 10.0**power <= axes.slowest
    ]
    lines = [_line(axes.x(t), _TOP, axes.x(t), _BOTTOM, "grid") for t in ticks]
    labels = [_text(axes.x(t), _BOTTOM + 18, f"{t:g}", "tick", "middle") for t in ticks]
    name = "median latency of one tile, ms (logarithmic) — less is better"
    return [*lines, *labels, _text((_LEFT + _RIGHT) / 2, _BOTTOM + 40, name, "axis", "middle")]


def _vertical_axis(axes: _Axes) -> list[str]:
    step = 10 if axes.highest_db - axes.lowest_db <= 60 else 20
    levels = [d for d in range(0, 201, step) if axes.lowest_db <= d <= axes.highest_db]
    lines = [_line(_LEFT, axes.y(d), _RIGHT, axes.y(d), "grid") for d in levels]
    labels = [_text(_LEFT - 8, axes.y(d) + 4, str(d), "tick", "end") for d in levels]
    middle = (_TOP + _BOTTOM) / 2
    name = (
        f'<text class="axis" text-anchor="middle" transform="translate(14 {middle}) rotate(-90)">'
    )
    return [*lines, *labels, f"{name}PSNR-µ against the reference, dB</text>"]


def _gates(axes: _Axes, bounds: dict[str, float]) -> list[str]:
    parts = []
    for bound in sorted(set(bounds.values())):
        names = ", ".join(p for p in bounds if bounds[p] == bound)
        parts.append(_line(_LEFT, axes.y(bound), _RIGHT, axes.y(bound), "gate"))
        label = f"{names} must reach {bound:g} dB"
        parts.append(_text(_RIGHT, axes.y(bound) - 5, label, "gate-name", "end"))
    return parts


def _marks(axes: _Axes, points: Sequence[_Point], bounds: Iterable[float]) -> list[str]:
    places = [(axes.x(p.milliseconds), axes.y(p.decibels)) for p in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    taken += [(_RIGHT - 170, axes.y(b) - 16, _RIGHT, axes.y(b)) for b in bounds]
    parts = []
    for point, (x, y) in zip(points, places, strict=True):
        name = point.row.name + (" (identical)" if point.decibels >= IDENTICAL_DB else "")
        label_x, label_y, box = _free_place(x, y, len(name) * _CHARACTER, taken)
        taken.append(box)
        kind = point.row.precision + ("" if point.row.passed else " failed")
        hint = f"{name}: {point.decibels:.1f} dB, {point.milliseconds:.2f} ms"
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            f"<title>{escape(hint)}</title></circle>"
        )
        parts.append(_text(label_x, label_y, name, "name", "start"))
    return parts


_Box = tuple[float, float, float, float]


def _free_place(
    x: float, y: float, width: float, taken: Sequence[_Box]
) -> tuple[float, float, _Box]:
    """Baseline of a label beside (x, y) that overlaps nothing, nearest first."""
    best = None
    for distance in range(6):
        for side in (1, -1) if distance else (1,):
            rise = side * distance * _LINE
            for left in (x + 10, x - 10 - width):
                box = (left, y + rise - 10, left + width, y + rise + 5)
                best = best or (left, y + rise + 4, box)
                if _inside(box) and not any(_overlap(box, other) for other in taken):
                    return left, y + rise + 4, box
    assert best is not None
    return best


def _inside(box: _Box) -> bool:
    return box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= _BOTTOM


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {where}>{escape(words)}</text>'
