"""Adaptive pooling and spatial means with a fixed kernel."""

import pytest
import torch
from torch import nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.adaptive_pool import FixAdaptivePool


class Mean(nn.Module):
    def __init__(self, axes: tuple[int, ...], keepdim: bool) -> None:
        super().__init__()
        self.axes, self.keepdim = axes, keepdim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(self.axes, keepdim=self.keepdim)


@pytest.mark.parametrize(("cells", "batch"), [(1, 1), (2, 4), ((4, 3), 1), ((None, 1), 4)])
def test_divisible_cells(prove, cells, batch) -> None:
    done = prove(nn.AdaptiveAvgPool2d(cells), FixAdaptivePool(), shape=(batch, 4, 8, 12))
    assert op_counts(done.program) == {"aten.avg_pool2d": 1}
    assert len(done.proofs) == 1


@pytest.mark.parametrize(
    ("cells", "shape", "ops"),
    [
        ((16, 24), (8, 12), {"aten.upsample_nearest2d.vec": 1}),
        ((16, 6), (8, 12), {"aten.upsample_nearest2d.vec": 1, "aten.avg_pool2d": 1}),
        ((8, 12), (8, 12), {}),
        ((3, 3), (8, 9), {"aten.avg_pool2d": 1, "aten.matmul": 1}),
        ((16, 16), (20, 24), {"aten.matmul": 2}),
        ((16, 16), (12, 8), {"aten.upsample_nearest2d.vec": 1, "aten.matmul": 1}),
    ],
)
def test_other_cells(prove, cells, shape, ops) -> None:
    done = prove(nn.AdaptiveAvgPool2d(cells), FixAdaptivePool(), shape=(2, 4, *shape))
    assert op_counts(done.program) == ops


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_spatial_mean(prove, axes) -> None:
    done = prove(Mean(axes, True), FixAdaptivePool())
    assert op_counts(done.program) == {"aten.avg_pool2d": 1}
    flat = prove(Mean(axes, False), FixAdaptivePool())
    assert op_counts(flat.program) == {"aten.avg_pool2d": 1, "aten.reshape": 1}
    assert len(flat.proofs) == 1


@pytest.mark.parametrize(
    ("net", "shape", "reason"),
    [
        (Mean((1,), True), (1, 4, 8, 8), "over axes [1]"),
        (Mean((1, 2), True), (4, 8, 8), "rank 3"),
    ],
)
def test_refuses(prove, net, shape, reason) -> None:
    done = prove(net, FixAdaptivePool(), shape=shape)
    assert not done.proofs
    assert reason in done.refusals[0].reason
