"""A pixel unshuffle and the convolution behind it are one strided convolution.

    conv(unshuffle(x, r), W)  =  conv(x, V, stride r, padding r p)

    V[o, c, r m + a, r n + b] = W[o, c r² + a r + b, m, n]
    W: Cout × C r² × k × k, stride 1, padding p        V: Cout × C × r k × r k

The same multiplications, without the reshapes and transposes of the unshuffle.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, fx

from pockethdr.export.aten import Conv, convs, emit_conv, is_conv
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement
from pockethdr.export.rewrites.shuffles import unshuffle_of


class MergeUnshuffleConv:
    """Read the full-resolution image with one strided convolution."""

    name = "unshuffle_conv"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return (node for node in convs(program) if unshuffle_of(Conv(node).input))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        conv = Conv(node)
        shuffle = unshuffle_of(conv.input)
        assert shuffle is not None
        if constant_of(conv.weight, program) is None:
            return "the weight is computed"
        if conv.transposed or conv.dilation != (1, 1):
            return "only for convolutions that are neither transposed nor dilated"
        if conv.in_channels // conv.groups % shuffle.factor**2:
            return "its groups cut through the phases of a channel"
        if not all(is_conv(user) for user in conv.input.users):
            return "the unshuffled image is read by more than convolutions, so it would stay"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        conv = Conv(node)
        shuffle, weight = unshuffle_of(conv.input), constant_of(conv.weight, program)
        assert shuffle is not None
        assert weight is not None
        factor = shuffle.factor
        new = emit_conv(
            program,
            shuffle.input,
            _spread(weight, factor),
            conv.bias,
            stride=(factor * conv.stride[0], factor * conv.stride[1]),
            padding=(factor * conv.padding[0], factor * conv.padding[1]),
            groups=conv.groups,
            hint=node.name,
        )
        height, width = conv.kernel
        return Replacement(
            new, f"{height * factor}×{width * factor} convolution with stride {factor}"
        )


def _spread(weight: Tensor, factor: int) -> Tensor:
    """Cout × C r² × k × k → Cout × C × r k × r k."""
    phases = weight.unflatten(1, (-1, factor, factor))
    return phases.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
