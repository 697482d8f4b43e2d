"""Adaptive pooling with fixed shapes is average pooling, repetition, or a product with a constant.

Along each axis, from n pixels to c cells:

    n % c = 0    average over n / c pixels
    c % n = 0    each pixel c / n times
    else         A x,  A[i, p] = 1 / (b - a) for a ≤ p < b,  a = ⌊i n / c⌋,  b = ⌈(i + 1) n / c⌉

mean(x, (2, 3))  =  the first with c = 1                            x: N×C×H×W
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, fx

from pockethdr.export.aten import Pair, arguments, aten, calls, emit, is_call, is_floating, shape
from pockethdr.export.program import add_constant
from pockethdr.export.rewrite import Replacement

_ADAPTIVE = (aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default)


class FixAdaptivePool:
    """Write adaptive average pooling and spatial means with a fixed kernel."""

    name = "adaptive_pool"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return calls(program, *_ADAPTIVE, aten.mean.dim)

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        if not is_floating(node.args[0]):
            return "it averages integers or truth values"
        size = shape(node.args[0])  # type: ignore[arg-type]
        if len(size) != 4:
            return f"its input has rank {len(size)}, average pooling takes rank 4"
        if is_call(node, aten.mean.dim):
            axes = sorted(axis % 4 for axis in arguments(node)["dim"] or range(4))
            return None if axes == [2, 3] else f"a mean over axes {axes}, not over (2, 3)"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        pixels = shape(source)[2:]
        is_mean = is_call(node, aten.mean.dim)
        cells = (1, 1) if is_mean else _filled(arguments(node)["output_size"], pixels)
        new, how = _averaged(program, source, pixels, cells)
        new, more = _repeated(program, new, pixels, cells)
        new, rest = _multiplied(program, new, pixels, cells)
        if shape(new) != shape(node):
            new = emit(program, aten.reshape.default, new, list(shape(node)))
        return Replacement(new, ", ".join([*how, *more, *rest]) or "as many cells as pixels")


def _filled(cells: Sequence[int | None], pixels: Sequence[int]) -> Pair:
    """`None` keeps an axis as it is."""
    height, width = (n if c is None else c for c, n in zip(cells, pixels, strict=True))
    return height, width


Step = tuple[fx.Node, list[str]]


def _averaged(
    program: fx.GraphModule, source: fx.Node, pixels: Sequence[int], cells: Sequence[int]
) -> Step:
    kernel = [n // c if n % c == 0 else 1 for n, c in zip(pixels, cells, strict=True)]
    if kernel == [1, 1]:
        return source, []
    new = emit(program, aten.avg_pool2d.default, source, kernel, kernel)
    return new, [f"average over cells of {kernel[0]}×{kernel[1]}"]


def _repeated(
    program: fx.GraphModule, source: fx.Node, pixels: Sequence[int], cells: Sequence[int]
) -> Step:
    times = [c // n if c % n == 0 else 1 for n, c in zip(pixels, cells, strict=True)]
    if times == [1, 1]:
        return source, []
    size = [n * t for n, t in zip(shape(source)[2:], times, strict=True)]
    new = emit(program, aten.upsample_nearest2d.vec, source, size, None)
    return new, [f"each pixel {times[0]}×{times[1]} times"]


def _multiplied(
    program: fx.GraphModule, source: fx.Node, pixels: Sequence[int], cells: Sequence[int]
) -> Step:
    new, how = source, []
    for axis, n, c in ((0, pixels[0], cells[0]), (1, pixels[1], cells[1])):
        if n % c and c % n:
            means = _means(n, c) if axis == 0 else _means(n, c).T
            matrix = add_constant(program, "pool", means, of_size=True)
            pair = (matrix, new) if axis == 0 else (new, matrix)
            new = emit(program, aten.matmul.default, *pair)
            how.append(f"product with the means of {n} pixels in {c} cells")
    return new, how


def _means(pixels: int, cells: int) -> Tensor:
    """A, cells×pixels, in float64."""
    matrix = torch.zeros(cells, pixels, dtype=torch.float64)
    for cell in range(cells):
        start, stop = cell * pixels // cells, -(-(cell + 1) * pixels // cells)
        matrix[cell, start:stop] = 1 / (stop - start)
    return matrix
