"""Leaky ReLU from operators that every quantizer knows.

max   leaky(x) = max(x, a x)                   0 ≤ a ≤ 1
relu  leaky(x) = relu(x) - a relu(-x)

Not among `default_rewrites`: see docs/decisions/004-layout-rewrites.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit
from pockethdr.export.rewrite import Replacement


class ExpandLeakyRelu:
    """Write leaky ReLU as a maximum or as two ReLUs.

    Args:
        form: `max` costs two operators, `relu` five but no MAXIMUM.
    """

    name = "leaky_relu"

    def __init__(self, form: Literal["max", "relu"] = "max") -> None:
        self.form = form

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return calls(program, aten.leaky_relu.default)

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        slope = arguments(node)["negative_slope"]
        if self.form == "max" and not 0 <= slope <= 1:
            return f"max(x, a x) needs 0 ≤ a ≤ 1, a = {slope}"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        source, slope = node.args[0], arguments(node)["negative_slope"]
        if self.form == "max":
            scaled = emit(program, aten.mul.Tensor, source, slope)
            return Replacement(emit(program, aten.maximum.default, source, scaled), "max(x, a x)")
        positive = emit(program, aten.relu.default, source)
        negative = emit(program, aten.relu.default, emit(program, aten.neg.default, source))
        scaled = emit(program, aten.mul.Tensor, negative, slope)
        return Replacement(emit(program, aten.sub.Tensor, positive, scaled), "relu(x) - a relu(-x)")
