"""`padding="same"` of an even kernel becomes a pad and a convolution.

conv(x, W, "same")  =  conv(pad(x, [l, r, t, b]), W)      l = ⌊d (k-1) / 2⌋,  r = d (k-1) - l
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from pockethdr.export.aten import Conv, aten, emit, emit_conv, pads_unequally
from pockethdr.export.rewrite import Replacement


class ExplicitPadding:
    """Give unequal padding an operator of its own, so that every convolution pads evenly."""

    name = "explicit_padding"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return (node for node in program.graph.nodes if pads_unequally(node))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        conv = Conv(node)
        reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel, strict=True)]
        top, left = (total // 2 for total in reach)
        pads = [left, reach[1] - left, top, reach[0] - top]
        padded = emit(program, aten.pad.default, conv.input, pads)
        new = emit_conv(
            program,
            padded,
            *(conv.weight, conv.bias),
            stride=conv.stride,
            dilation=conv.dilation,
            groups=conv.groups,
        )
        return Replacement(new, f"padding left, right, top, bottom = {pads}")
