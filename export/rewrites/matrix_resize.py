"""Resizing with a bicubic or an antialiasing filter is a product with a constant along each axis.

    y = A x Bᵀ        A, B: the operator's own weights, for these sizes        x: N×C×H×W

coremltools refuses bicubic filters and leaves antialiasing out without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from pockethdr.export.aten import arguments, aten, calls, emit, shape
from pockethdr.export.program import add_constant
from pockethdr.export.rewrite import Replacement

_RESIZES = (aten.upsample_bicubic2d, aten._upsample_bilinear2d_aa, aten._upsample_bicubic2d_aa)


class ResizeByMatrix:
    """Write a resize that is not plain bilinear or nearest as two products."""

    name = "matrix_resize"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return calls(program, *(op for resize in _RESIZES for op in (resize.vec, resize.default)))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        source = node.all_input_nodes[0]
        rows, columns = (_weights(node, source, axis) for axis in (0, 1))
        tall = add_constant(program, "resize", rows, of_size=True)
        wide = add_constant(program, "resize", columns.T, of_size=True)
        new = emit(program, aten.matmul.default, tall, source)
        new = emit(program, aten.matmul.default, new, wide)
        sizes = [f"{n} to {m}" for m, n in (rows.shape, columns.shape)]
        return Replacement(new, f"products from {' and '.join(sizes)} pixels")


def _weights(node: fx.Node, source: fx.Node, axis: int) -> Tensor:
    """A, new×old pixels along height (0) or width (1): what the operator makes of one lit pixel.

    Always along the width: PyTorch 2.13 antialiases one column wrongly, and one row rightly.
    """
    (resize,) = (op for op in _RESIZES if node.target in (op.vec, op.default))
    old, new = shape(source)[2 + axis], shape(node)[2 + axis]
    lit = torch.eye(old, dtype=torch.float64)[None, :, None]
    aligned, scale = bool(arguments(node)["align_corners"]), _scale(arguments(node), axis)
    columns: Tensor = resize.default(lit, [1, new], aligned, None, scale)
    return columns[0, :, 0].T


def _scale(given: dict[str, Any], axis: int) -> float | None:
    """The factor that the network asked for; None where it asked for a size."""
    if "scale_factors" in given:
        return None if given["scale_factors"] is None else given["scale_factors"][axis]
    return given[("scales_h", "scales_w")[axis]]
