"""Adaptive pooling and spatial means with a fixed kernel."""

import pytest
import torch
from torch import nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrite import ProofError, Replacement
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


class Excited(nn.Module):
    """Squeeze and excitation behind InstanceNorm: means of what has none are roundings."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = nn.functional.instance_norm(x)
        return centred * torch.sigmoid(nn.functional.adaptive_avg_pool2d(centred, 1))


def test_the_mean_of_what_has_none_is_compared_with_what_it_is_of(prove) -> None:
    assert prove(Excited(), FixAdaptivePool()).proofs


def test_a_wrong_mean_of_what_has_none_is_seen(prove, monkeypatch) -> None:
    real = FixAdaptivePool.rewrite

    def wrong(self, node, program):
        mean = real(self, node, program).node
        return Replacement(program.graph.call_function(torch.ops.aten.add.Tensor, (mean, 1e-12)))

    monkeypatch.setattr(FixAdaptivePool, "rewrite", wrong)
    with pytest.raises(ProofError, match=r"changed `adaptive_avg_pool2d` by"):
        prove(Excited(), FixAdaptivePool())
