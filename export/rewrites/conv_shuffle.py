"""A convolution and the pixel shuffle behind it are one transposed convolution.

    shuffle(conv(x, W), r)  =  tconv(x, V, stride r, padding r (k - 1 - p))

    V[i, c, r (k-1-m) + a, r (k-1-n) + b] = W[c r² + a r + b, i, m, n]
    W: C r² × Cin × k × k, stride 1, padding p ≤ k-1        V: Cin × C × r k × r k

A 3×3 convolution and a shuffle by 2 are a 6×6 transposed convolution with stride 2, padding 2. It
adds one bias per channel, so the r² biases of a channel must be equal.

Not among `default_rewrites`: see docs/decisions/004-layout-rewrites.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, fx

from pockethdr.export.aten import Conv, by_group, emit_conv, is_conv
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement
from pockethdr.export.rewrites.shuffles import Shuffle, shuffle_of


class MergeConvShuffle:
    """Merge pixel shuffles with the convolution in front."""

    name = "conv_shuffle"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return (node for node in program.graph.nodes if shuffle_of(node))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        shuffle = shuffle_of(node)
        assert shuffle is not None
        if not is_conv(shuffle.input):
            return "no convolution directly in front of the shuffle"
        return _refusal(Conv(shuffle.input), shuffle, program)

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        shuffle = shuffle_of(node)
        assert shuffle is not None
        conv, factor = Conv(shuffle.input), shuffle.factor
        weight = constant_of(conv.weight, program)
        assert weight is not None
        bias = None if conv.bias is None else constant_of(conv.bias, program)
        (height, width), (top, left) = conv.kernel, conv.padding
        new = emit_conv(
            program,
            conv.input,
            _spread(conv, weight, factor),
            None if bias is None else bias[:: factor**2],
            stride=factor,
            padding=(factor * (height - 1 - top), factor * (width - 1 - left)),
            groups=conv.groups,
            transposed=True,
            hint=node.name,
        )
        return Replacement(
            new, f"{height * factor}×{width * factor} transposed convolution, stride {factor}"
        )


def _refusal(conv: Conv, shuffle: Shuffle, program: fx.GraphModule) -> str | None:
    phases = shuffle.factor**2
    if constant_of(conv.weight, program) is None:
        return "the weight is computed"
    if len(conv.node.users) > 1:
        return "the convolution is also read elsewhere"
    if conv.transposed or conv.stride != (1, 1) or conv.dilation != (1, 1):
        return "only for plain convolutions with stride 1"
    if any(pad > size - 1 for pad, size in zip(conv.padding, conv.kernel, strict=True)):
        return "padded by more than its kernel reaches"
    if conv.out_channels // conv.groups % phases:
        return "its groups cut through the phases of a channel"
    if conv.bias is not None and not _is_equal_per_channel(constant_of(conv.bias, program), phases):
        return f"the bias differs between the {phases} phases of a channel"
    return None


def _is_equal_per_channel(bias: Tensor | None, phases: int) -> bool:
    return bias is not None and torch.equal(bias, bias[::phases].repeat_interleave(phases))


def _spread(conv: Conv, weight: Tensor, factor: int) -> Tensor:
    """C r² × Cin/g × k × k → Cin × C/g × r k × r k, taps reversed."""
    grouped = by_group(conv, weight).flip(3, 4)
    phases = grouped.unflatten(1, (-1, factor, factor))  # g × C/g × r × r × Cin/g × k × k
    return phases.permute(0, 4, 1, 5, 2, 6, 3).flatten(5, 6).flatten(3, 4).flatten(0, 1)
