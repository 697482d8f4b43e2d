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


@pytest.mark.parametrize(
    ("cells", "batch"), [(1, 1), (2, 4), ((4, 3), 1), ((8, 12), 4), ((None, 1), 4)]
)
def test_divisible_cells(prove, cells, batch) -> None:
    done = prove(nn.AdaptiveAvgPool2d(cells), FixAdaptivePool(), shape=(batch, 4, 8, 12))
    assert op_counts(done.program) == {"aten.avg_pool2d": 1}
    assert len(done.proofs) == 1


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
        (nn.AdaptiveAvgPool2d(3), (1, 4, 8, 9), "8×9 is not divisible into 3×3"),
        (Mean((1,), True), (1, 4, 8, 8), "over axes [1]"),
        (Mean((1, 2), True), (4, 8, 8), "rank 3"),
    ],
)
def test_refuses(prove, net, shape, reason) -> None:
    done = prove(net, FixAdaptivePool(), shape=shape)
    assert not done.proofs
    assert reason in done.refusals[0].reason
