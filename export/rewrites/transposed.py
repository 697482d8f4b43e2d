"""A transposed convolution is a dense one and a pixel shuffle.

    tconv(x, W, stride s, padding p)  =  shuffle(conv(x, V, padding q), s)

    V[c s² + a s + b, i, m, n] = W[i, c, a + p - s (m - q), b + p - s (n - q)], 0 outside of W
    W: Cin × C × k × k with k + output_padding - 2 p = s        V: C s² × Cin × (2q+1) × (2q+1)

5×5 with stride 2 becomes 3×3 (even phases use taps 0, 2, 4, odd phases 1, 3); 2×2 becomes 1×1.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from math import ceil

from torch import Tensor, fx

from pockethdr.export.aten import Conv, aten, by_group, convs, emit, emit_conv
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement


class ShuffleTransposedConv:
    """Write transposed convolutions as a dense convolution and a pixel shuffle.

    Args:
        keep_disjoint: leave those whose kernel is as large as their stride: runtimes take them,
            and run them faster than a pixel shuffle. Not in groups: LiteRT's converter makes a
            float convolution of each.
    """

    name = "transposed"

    def __init__(self, *, keep_disjoint: bool = False) -> None:
        self.keep_disjoint = keep_disjoint

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for node in convs(program):
            conv = Conv(node)
            is_disjoint = conv.kernel == conv.stride and conv.groups == 1
            if conv.transposed and not (self.keep_disjoint and is_disjoint):
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        conv = Conv(node)
        step, other = conv.stride
        if constant_of(conv.weight, program) is None:
            return "the weight is computed"
        if conv.bias is not None and constant_of(conv.bias, program) is None:
            return "the bias is computed"
        if step != other or conv.dilation != (1, 1):
            return "only for equal strides without dilation"
        if step == 1:
            return "it has stride 1"
        for taps, pad, extra in zip(conv.kernel, conv.padding, conv.output_padding, strict=True):
            if taps + extra - 2 * pad != step:
                return f"its output is not exactly {step} times its input"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        conv = Conv(node)
        step, weight = conv.stride[0], constant_of(conv.weight, program)
        assert weight is not None
        bias = None if conv.bias is None else constant_of(conv.bias, program)
        pads = (
            _reach(conv.kernel[0], conv.padding[0], step),
            _reach(conv.kernel[1], conv.padding[1], step),
        )
        dense = emit_conv(
            program,
            conv.input,
            _phases(conv, weight, pads),
            None if bias is None else bias.repeat_interleave(step**2),
            padding=pads,
            groups=conv.groups,
            hint=node.name,
        )
        kernel = "×".join(str(2 * pad + 1) for pad in pads)
        return Replacement(
            emit(program, aten.pixel_shuffle.default, dense, step),
            f"{kernel} convolution and a pixel shuffle by {step}",
        )


def _reach(taps: int, pad: int, step: int) -> int:
    """How many input pixels to either side an output block depends on."""
    return max(-ceil((pad - taps + 1) / step), (step - 1 + pad) // step)


def _phases(conv: Conv, weight: Tensor, pads: tuple[int, int]) -> Tensor:
    grouped, step = by_group(conv, weight), conv.stride[0]  # g × C/g × Cin/g × k × k
    rows, columns = (2 * pad + 1 for pad in pads)
    dense = grouped.new_zeros(*grouped.shape[:2], step, step, grouped.shape[2], rows, columns)
    for a, b, m, n in product(range(step), range(step), range(rows), range(columns)):
        row = a + conv.padding[0] - step * (m - pads[0])
        column = b + conv.padding[1] - step * (n - pads[1])
        if 0 <= row < conv.kernel[0] and 0 <= column < conv.kernel[1]:
            dense[:, :, a, b, :, m, n] = grouped[..., row, column]
    return dense.flatten(0, 3)
