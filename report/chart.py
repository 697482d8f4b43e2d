"""Accuracy against latency, as SVG text: logarithmic milliseconds across, decibels up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from pockethdr.runtime.agreement import IDENTICAL_DB

WIDTH, HEIGHT = 600, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 586, 16, 332
#: Identical outputs have no finite PSNR; they are drawn at the top edge of the plot.
_HIGHEST_DB = 120.0
#: A plot spans at least this much, so that noise does not look like a trend.
_LEAST_DB = 1.5
_CHARACTER, _LINE = 6.6, 15


@dataclass(frozen=True)
class Point:
    """One mark: its label, its figures, and the style classes that colour it."""

    name: str
    milliseconds: float
    decibels: float
    style: str


@dataclass(frozen=True)
class _Axes:
    """Decades of milliseconds and decibels that the plot spans."""

    fastest: float
    slowest: float
    lowest_db: float
    highest_db: float
    step_db: float

    def x(self, milliseconds: float) -> float:
        low, high = math.log10(self.fastest), math.log10(self.slowest)
        share = (math.log10(milliseconds) - low) / (high - low)
        return _LEFT + share * (_RIGHT - _LEFT)

    def y(self, decibels: float) -> float:
        share = (decibels - self.lowest_db) / (self.highest_db - self.lowest_db)
        return _BOTTOM - min(share, 1.0) * (_BOTTOM - _TOP)


def scatter(points: Sequence[Point], *, vertical: str, gates: Mapping[str, float]) -> str:
    """An <svg> of the points; empty text when there is none.

    Args:
        vertical: what the decibels are.
        gates: decibels that must be reached, by who must reach them.
    """
    if not points:
        return ""
    axes = _axes(points, list(gates.values()))
    parts = [
        *_horizontal_axis(axes),
        *_vertical_axis(axes, vertical),
        *_gates(axes, gates),
        *_marks(axes, points, set(gates.values())),
    ]
    title = f"{vertical} over median latency, one point an artifact"
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f"aria-label={quoteattr(title)}>" + "".join(parts) + "</svg>"
    )


def _axes(points: Sequence[Point], gates: Sequence[float]) -> _Axes:
    times = [point.milliseconds for point in points]
    levels = [min(point.decibels, _HIGHEST_DB) for point in points] + list(gates)
    # At least a factor of ten, so that the axis has ticks and noise does not look like a trend.
    margin = max(1.4, math.sqrt(10 * min(times) / max(times)))
    span = max(_LEAST_DB, max(levels) - min(levels))
    middle, step = (max(levels) + min(levels)) / 2, _round_step(span / 4)
    return _Axes(
        min(times) / margin,
        max(times) * margin,
        step * math.floor((middle - 0.6 * span) / step),
        step * math.ceil((middle + 0.6 * span) / step),
        step,
    )


def _round_step(least: float) -> float:
    """The smallest of 0.1, 0.2, 0.5, 1, 2, 5, 10… that is at least `least`."""
    return min(s * 10.0**p for p in range(-1, 3) for s in (1, 2, 5) if s * 10.0**p >= least)


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


def _vertical_axis(axes: _Axes, name: str) -> list[str]:
    count = round((axes.highest_db - axes.lowest_db) / axes.step_db)
    levels = [axes.lowest_db + n * axes.step_db for n in range(count + 1)]
    lines = [_line(_LEFT, axes.y(d), _RIGHT, axes.y(d), "grid") for d in levels]
    labels = [_text(_LEFT - 8, axes.y(d) + 4, f"{d:.6g}", "tick", "end") for d in levels]
    middle = (_TOP + _BOTTOM) / 2
    place = (
        f'<text class="axis" text-anchor="middle" transform="translate(14 {middle}) rotate(-90)">'
    )
    return [*lines, *labels, f"{place}{escape(name)}, dB</text>"]


def _gates(axes: _Axes, gates: Mapping[str, float]) -> list[str]:
    parts = []
    for bound in sorted(set(gates.values())):
        names = ", ".join(name for name in gates if gates[name] == bound)
        parts.append(_line(_LEFT, axes.y(bound), _RIGHT, axes.y(bound), "gate"))
        label = f"{names} must reach {bound:g} dB"
        parts.append(_text(_RIGHT, axes.y(bound) - 5, label, "gate-name", "end"))
    return parts


def _marks(axes: _Axes, points: Sequence[Point], gates: Iterable[float]) -> list[str]:
    places = [(axes.x(p.milliseconds), axes.y(p.decibels)) for p in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    taken += [(_RIGHT - 170, axes.y(b) - 16, _RIGHT, axes.y(b)) for b in gates]
    parts = []
    for point, (x, y) in zip(points, places, strict=True):
        name = point.name + (" (identical)" if point.decibels >= IDENTICAL_DB else "")
        label_x, label_y, box = _free_place(x, y, len(name) * _CHARACTER, taken)
        taken.append(box)
        hint = f"{name}: {point.decibels:.1f} dB, {point.milliseconds:.2f} ms"
        parts.append(
            f'<circle class={quoteattr(point.style)} cx="{x:.1f}" cy="{y:.1f}" r="5">'
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
