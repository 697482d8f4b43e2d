"""Reflection, replication and circular padding from slices and concatenations.

    reflect    [x₂ x₁ | x₀ x₁ … xₙ | xₙ₋₁ xₙ₋₂]        x: N×C×H×W, along W then along H
    replicate  [x₀ x₀ | x₀ x₁ … xₙ | xₙ   xₙ  ]
    circular   [xₙ₋₁ xₙ | x₀ x₁ … xₙ | x₀ x₁]

MIRROR_PAD is missing from phone GPU delegates, and Core ML has no circular padding; SLICE and
CONCATENATION are everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, is_call, shape
from pockethdr.export.rewrite import Replacement

_MODES = {
    aten.reflection_pad2d.default: "reflect",
    aten.replication_pad2d.default: "replicate",
}
# Mode → the lines of an axis that ends at `last`, i before its first and i behind its last.
_LINES: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "reflect": lambda last, i: (i, last - i),
    "replicate": lambda last, i: (0, last),
    "circular": lambda last, i: (last + 1 - i, i - 1),
}


class ExpandReflectPad:
    """Write padding with what the image holds as slices joined by concatenations."""

    name = "reflect_pad"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        padding = calls(program, *_MODES, aten.pad.default)
        return (node for node in padding if _mode(node) != "constant")

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        mode, pads = _mode(node), _pads(node)
        if mode not in _LINES:
            return f"no form for {mode} padding"
        if len(shape(node)) != 4 or len(pads) > 4:
            return "pads other axes than height and width"
        if min(pads) < 0:
            return f"negative padding {pads}"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        new, pads = node.args[0], _pads(node)
        assert isinstance(new, fx.Node)
        for axis, before, after in ((3, *pads[:2]), (2, *(pads[2:] or [0, 0]))):
            new = _extended(program, new, axis, before, after, _mode(node))
        return Replacement(new, f"{_mode(node)} padding {pads} by slices and concatenations")


def _mode(node: fx.Node) -> str:
    named = [mode for op, mode in _MODES.items() if node.target is op]
    return named[0] if named else arguments(node)["mode"]


def _pads(node: fx.Node) -> list[int]:
    """Left, right and, when there are four, top, bottom."""
    return list(arguments(node)["pad" if is_call(node, aten.pad.default) else "padding"])


def _extended(
    program: fx.GraphModule, source: fx.Node, axis: int, before: int, after: int, mode: str
) -> fx.Node:
    last, line = shape(source)[axis] - 1, _LINES[mode]
    head = [line(last, i)[0] for i in range(before, 0, -1)]
    tail = [line(last, i)[1] for i in range(1, after + 1)]
    lines = {
        i: emit(program, aten.slice.Tensor, source, axis, i, i + 1)
        for i in dict.fromkeys(head + tail)
    }
    parts = [*(lines[i] for i in head), source, *(lines[i] for i in tail)]
    return emit(program, aten.cat.default, parts, axis) if len(parts) > 1 else source
