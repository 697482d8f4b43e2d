"""Unfolding (im2col) by a depthwise convolution whose kernels are 1 at one place each.

    unfold(x)[c·k² + t, p]  =  x[c, p + t]  =  (E * x)[c·k² + t, p]

    E: C·k²×1×k×k, 0 but for E[c·k² + t, 0, t] = 1

What is left of unfolding once dynamic convolutions are static: attention over a neighbourhood, say.
Core ML's converter makes it a dense convolution, C times as many multiplications.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, emit_conv, pair, shape
from pockethdr.export.rewrite import Replacement


class UnfoldByConvolution:
    """Write im2col as a depthwise convolution and a reshape."""

    name = "unfold"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return calls(program, aten.im2col.default)

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return None if len(shape(node)) == 3 else "it is of an image without a batch"

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        a = arguments(node)
        kernel, channels = pair(a["kernel_size"]), shape(a["self"])[1]
        taps = torch.eye(prod(kernel)).reshape(-1, 1, *kernel)
        shifted = emit_conv(
            program,
            a["self"],
            taps.repeat(channels, 1, 1, 1),
            stride=pair(a["stride"]),
            padding=pair(a["padding"]),
            dilation=pair(a["dilation"]),
            groups=channels,
            hint=node.name,
        )
        return Replacement(emit(program, aten.reshape.default, shifted, list(shape(node))))
