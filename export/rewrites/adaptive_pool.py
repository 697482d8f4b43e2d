"""Adaptive pooling with fixed shapes is average pooling.

adaptive_avg_pool(x, h×w)  =  avg_pool(x, kernel = stride = H/h × W/w)    H % h = W % w = 0
mean(x, (2, 3))            =  avg_pool(x, kernel = H×W)                   x: N×C×H×W
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, is_call, shape
from pockethdr.export.rewrite import Replacement

_ADAPTIVE = (aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default)


class FixAdaptivePool:
    """Write adaptive average pooling and spatial means with a fixed kernel."""

    name = "adaptive_pool"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return calls(program, *_ADAPTIVE, aten.mean.dim)

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        size = shape(node.args[0])  # type: ignore[arg-type]
        if len(size) != 4:
            return f"its input has rank {len(size)}, average pooling takes rank 4"
        if is_call(node, aten.mean.dim):
            axes = sorted(axis % 4 for axis in arguments(node)["dim"] or range(4))
            return None if axes == [2, 3] else f"a mean over axes {axes}, not over (2, 3)"
        height, width = arguments(node)["output_size"]
        if size[2] % height or size[3] % width:
            return f"{size[2]}×{size[3]} is not divisible into {height}×{width} equal cells"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        _, _, height, width = shape(source)
        cells = (1, 1) if is_call(node, aten.mean.dim) else arguments(node)["output_size"]
        kernel = [height // cells[0], width // cells[1]]
        new = emit(program, aten.avg_pool2d.default, source, kernel, kernel)
        if shape(new) != shape(node):
            new = emit(program, aten.reshape.default, new, list(shape(node)))
        return Replacement(new, f"average over cells of {kernel[0]}×{kernel[1]}")
