"""Two constant convolutions in a row are one, when one of them is pointwise.

    B *₁ (A * x + a) + b   =  (B A) * x + (B a + b)          B: Cout×M×1×1, A: M×Cin×k×k
    B * (A *₁ x + a) + b   =  (B A) * x + (Σₖ B a + b)       A: M×Cin×1×1, B: Cout×M×k×k

The second form needs a = 0 or no padding, since B's padding is 0 and not a. Merged only when that
does not cost multiplications. With g groups, both are block diagonal and the product is per block.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, fx

from pockethdr.export.aten import Conv, by_group, convs, emit_conv_like, from_groups, is_conv, shape
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement


@dataclass(frozen=True)
class _Pair:
    first: Conv
    second: Conv

    @property
    def wide(self) -> Conv:
        """The one that keeps its kernel, stride and padding."""
        return self.first if _is_pointwise(self.second) else self.second


class MergePointwise:
    """Multiply the weights of a convolution and a pointwise neighbour."""

    name = "merge_pointwise"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for node in convs(program):
            source = Conv(node).input
            if is_conv(source) and (_is_pointwise(Conv(node)) or _is_pointwise(Conv(source))):
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        pair = _pair_at(node)
        if len(pair.first.node.users) > 1:
            return "the value between the two convolutions is also read elsewhere"
        if any(constant_of(c.weight, program) is None for c in (pair.first, pair.second)):
            return "the weight of one of them is computed"
        if any(_has_computed_bias(c, program) for c in (pair.first, pair.second)):
            return "the bias of one of them is computed"
        if pair.first.groups != pair.second.groups:
            return f"{pair.first.groups} and {pair.second.groups} groups do not line up"
        if _pads_a_bias(pair, program):
            return "the second pads with 0 where the first would add its bias"
        before, after = pair.first.macs + pair.second.macs, _merged_macs(pair)
        if after > before:
            return f"would cost {after} multiplications instead of {before}"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        pair = _pair_at(node)
        new = emit_conv_like(
            program,
            pair.wide,
            pair.first.input,
            _product(pair, program),
            _bias(pair, program),
            hint=node.name,
        )
        saved = pair.first.macs + pair.second.macs - _merged_macs(pair)
        return Replacement(new, f"two convolutions in one, {saved} multiplications saved")


def _pair_at(node: fx.Node) -> _Pair:
    return _Pair(Conv(Conv(node).input), Conv(node))


def _is_pointwise(conv: Conv) -> bool:
    return conv.kernel == conv.stride == (1, 1) and conv.padding == (0, 0) and not conv.transposed


def _has_computed_bias(conv: Conv, program: fx.GraphModule) -> bool:
    return conv.bias is not None and constant_of(conv.bias, program) is None


def _pads_a_bias(pair: _Pair, program: fx.GraphModule) -> bool:
    """Whether the first adds a bias that a border of the second would not see."""
    if pair.first.bias is None or _is_pointwise(pair.second):
        return False
    bias = constant_of(pair.first.bias, program)
    has_border = pair.second.transposed or pair.second.padding != (0, 0)
    return has_border and (bias is None or bool(bias.any()))


def _merged_macs(pair: _Pair) -> int:
    wide = pair.wide
    batch, _, height, width = shape(pair.first.input if wide.transposed else pair.second.node)
    per_pixel = pair.first.in_channels * pair.second.out_channels // wide.groups
    return batch * height * width * per_pixel * prod(wide.kernel)


def _product(pair: _Pair, program: fx.GraphModule) -> Tensor:
    first, second = (_grouped(conv, program) for conv in (pair.first, pair.second))
    # One of the two has 1×1 taps, so the broadcast multiplies its values into those of the other.
    merged = torch.einsum("gomyx,gmiyx->goiyx", *_same_taps(second, first))
    return from_groups(pair.wide, merged)


def _same_taps(second: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    taps = [max(a, b) for a, b in zip(second.shape[3:], first.shape[3:], strict=True)]
    return second.expand(-1, -1, -1, *taps), first.expand(-1, -1, -1, *taps)


def _bias(pair: _Pair, program: fx.GraphModule) -> fx.Node | Tensor | None:
    if pair.first.bias is None:
        return pair.second.bias
    inner = constant_of(pair.first.bias, program)
    outer = None if pair.second.bias is None else constant_of(pair.second.bias, program)
    assert inner is not None
    summed = _grouped(pair.second, program).sum((3, 4))
    through = torch.einsum("gom,gm->go", summed, inner.unflatten(0, (summed.shape[0], -1)))
    return through.flatten() if outer is None else through.flatten() + outer


def _grouped(conv: Conv, program: fx.GraphModule) -> Tensor:
    weight = constant_of(conv.weight, program)
    assert weight is not None
    return by_group(conv, weight)
