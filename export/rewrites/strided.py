"""A strided convolution is a dense one on the phases of its input.

    conv(x, W, stride s, padding p)  =  conv(unshuffle(x, s), V, padding q)

    V[o, c s² + a s + b, m, n] = W[o, c, s (m - q) + a + p, s (n - q) + b + p], 0 outside of W
    q = the blocks that the k taps at offsets -p … k-1-p reach, to the left and to the right

The 5×5 convolution with stride 2 and padding 2 becomes a 3×3 one on 4 C channels: 36 instead of 25
multiplications, for targets whose strided convolution is that much slower. x: N×C×H×W, H % s = 0.

Not among `default_rewrites`: see docs/decisions/004-layout-rewrites.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, fx

from pockethdr.export.aten import Conv, aten, convs, emit, emit_conv, shape
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement


class UnshuffleStridedConv:
    """Write strided convolutions as a pixel unshuffle and a dense convolution."""

    name = "strided"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for node in convs(program):
            if Conv(node).stride != (1, 1) and not Conv(node).transposed:
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        conv = Conv(node)
        step, _ = conv.stride
        if constant_of(conv.weight, program) is None:
            return "the weight is computed"
        if conv.stride != (step, step) or conv.dilation != (1, 1):
            return "only for equal strides without dilation"
        if any(size % step for size in shape(conv.input)[2:]):
            return f"the size {shape(conv.input)[2:]} is not divisible by the stride {step}"
        for taps, pad in zip(conv.kernel, conv.padding, strict=True):
            left, right = _reach(taps, pad, step)
            if left != right:
                return f"its taps reach {left} blocks to one side and {right} to the other"
        if shape(node)[2:] != tuple(size // step for size in shape(conv.input)[2:]):
            return f"its output is not exactly a {step}th of its input"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        conv = Conv(node)
        step, weight = conv.stride[0], constant_of(conv.weight, program)
        assert weight is not None
        pads = [
            _reach(taps, pad, step)[0] for taps, pad in zip(conv.kernel, conv.padding, strict=True)
        ]
        new = emit_conv(
            program,
            emit(program, aten.pixel_unshuffle.default, conv.input, step),
            _phases(weight, conv.padding, step, pads),
            conv.bias,
            padding=(pads[0], pads[1]),
            groups=conv.groups,
            hint=node.name,
        )
        kernel = "×".join(str(2 * pad + 1) for pad in pads)
        return Replacement(new, f"{kernel} convolution on {step**2} phases")


def _reach(taps: int, pad: int, step: int) -> tuple[int, int]:
    """How many blocks of `step` pixels the taps reach to the left and to the right."""
    return -(-pad // step), (taps - 1 - pad) // step


def _phases(weight: Tensor, padding: tuple[int, int], step: int, pads: list[int]) -> Tensor:
    """Cout × C × k × k → Cout × C s² × (2q+1) × (2q+1)."""
    height, width = (step * (2 * pad + 1) for pad in pads)
    spread = weight.new_zeros(*weight.shape[:2], height, width)
    top, left = (step * q - p for q, p in zip(pads, padding, strict=True))
    spread[:, :, top : top + weight.shape[2], left : left + weight.shape[3]] = weight
    blocks = spread.unflatten(3, (-1, step)).unflatten(2, (-1, step))  # o c m a n b
    return blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
