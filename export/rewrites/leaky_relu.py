"""Leaky ReLU from operators that every quantizer knows.

    leaky(x) = max(x, a x)                   0 ≤ a ≤ 1

Not among `default_rewrites`: see docs/decisions/004-layout-rewrites.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit
from pockethdr.export.rewrite import Replacement


class ExpandLeakyRelu:
    """Write leaky ReLU as a maximum."""

    name = "leaky_relu"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return calls(program, aten.leaky_relu.default)

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        slope = arguments(node)["negative_slope"]
        return None if 0 <= slope <= 1 else f"max(x, a x) needs 0 ≤ a ≤ 1, a = {slope}"

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        source, slope = node.args[0], arguments(node)["negative_slope"]
        scaled = emit(program, aten.mul.Tensor, source, slope)
        return Replacement(emit(program, aten.maximum.default, source, scaled), "max(x, a x)")
