"""GroupNorm and InstanceNorm from means over the image, which can be cut off (see `context`).

d = x - mean_g(x),   group_norm(x) = d · (rsqrt(mean_g(d²) + ε) · weight) + bias      x: N×C×H×W

mean_g is the mean over a group's channels and all pixels, N×C×1×1; a group of InstanceNorm is one
channel.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, is_call, shape
from pockethdr.export.rewrite import Replacement


class ExpandImageNorm:
    """Write normalisations by statistics of the image as arithmetic."""

    name = "image_norm"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for node in calls(program, aten.group_norm.default, aten.instance_norm.default):
            if arguments(node).get("use_input_stats", True):
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        rank = len(shape(node))
        return None if rank == 4 else f"its input has rank {rank}, not 4"

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        a = arguments(node)
        source, channels = a["input"], shape(node)[1]
        groups = a["num_groups"] if is_call(node, aten.group_norm.default) else channels
        apart = emit(program, aten.sub.Tensor, source, _mean(program, source, groups))
        power = _mean(program, emit(program, aten.mul.Tensor, apart, apart), groups)
        gain = emit(
            program, aten.rsqrt.default, emit(program, aten.add.Tensor, power, float(a["eps"]))
        )
        if a["weight"] is not None:
            weight = emit(program, aten.reshape.default, a["weight"], [1, -1, 1, 1])
            gain = emit(program, aten.mul.Tensor, gain, weight)
        new = emit(program, aten.mul.Tensor, apart, gain)
        if a["bias"] is not None:
            bias = emit(program, aten.reshape.default, a["bias"], [1, -1, 1, 1])
            new = emit(program, aten.add.Tensor, new, bias)
        return Replacement(new, f"{groups} groups of {channels // groups} channels")


def _mean(program: fx.GraphModule, value: fx.Node, groups: int) -> fx.Node:
    """Over the pixels and the channels of each group, N×C×1×1."""
    n, c = shape(value)[:2]
    mean = emit(program, aten.mean.dim, value, [2, 3], True)
    if groups == c:
        return mean
    grouped = emit(program, aten.reshape.default, mean, [n, groups, c // groups, 1])
    mean = emit(program, aten.mean.dim, grouped, [2, 3], True)
    mean = emit(program, aten.expand.default, mean, [n, groups, c // groups, 1])
    return emit(program, aten.reshape.default, mean, [n, c, 1, 1])
