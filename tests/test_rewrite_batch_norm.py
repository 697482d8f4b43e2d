"""Batch norm folds forwards and backwards, and says when it cannot."""

import pytest
import torch
from torch import nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.batch_norm import FoldBatchNorm


def norm(channels: int, *, affine: bool = True) -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(channels, affine=affine)
    module.running_mean = torch.randn(channels)
    module.running_var = torch.rand(channels) + 0.5
    if affine:
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
    return module


def has_no_norm(done) -> bool:
    return not any("norm" in op for op in op_counts(done.program))


@pytest.mark.parametrize(("bias", "batch"), [(True, 4), (False, 1)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_folds_into_the_convolution_before(prove, kind, groups, bias, batch) -> None:
    conv = kind(4, 6, 3, stride=2, padding=1, groups=groups, bias=bias)
    done = prove(nn.Sequential(conv, norm(6)), FoldBatchNorm(), shape=(batch, 4, 8, 8))
    assert len(done.proofs) == 1
    assert has_no_norm(done)


def test_folds_without_affine(prove) -> None:
    done = prove(nn.Sequential(nn.Conv2d(4, 6, 3), norm(6, affine=False)), FoldBatchNorm())
    assert len(done.proofs) == 1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_folds_into_the_convolution_behind(prove, groups, bias) -> None:
    net = nn.Sequential(nn.ReLU(), norm(4), nn.Conv2d(4, 6, 3, groups=groups, bias=bias))
    done = prove(net, FoldBatchNorm())
    assert [proof.place for proof in done.proofs] == ["conv2d"]
    assert has_no_norm(done)


def test_folds_two_norms_around_one_convolution(prove) -> None:
    done = prove(nn.Sequential(norm(4), nn.Conv2d(4, 6, 3), norm(6)), FoldBatchNorm())
    assert has_no_norm(done)


def test_folds_the_core_spelling(prove) -> None:
    class Core(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 6, 3), norm(6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n = self.norm
            stats = (n.running_mean, n.running_var)
            return torch.batch_norm(
                self.conv(x), n.weight, n.bias, *stats, False, 0.1, n.eps, False
            )

    assert has_no_norm(prove(Core(), FoldBatchNorm()))


def test_folds_in_front_of_padding_without_shift(prove) -> None:
    front = nn.BatchNorm2d(4)
    front.running_var = torch.rand(4) + 0.5
    done = prove(nn.Sequential(front, nn.Conv2d(4, 6, 3, padding=1)), FoldBatchNorm())
    assert len(done.proofs) == 1


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3), norm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y + self.norm(y)


class Dynamic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.weight = norm(4), nn.Parameter(torch.randn(4, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(torch.conv2d(x, self.weight * x.mean()))


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(norm(4), nn.Conv2d(4, 6, 3, padding=1)),
        nn.Sequential(norm(4), nn.ConvTranspose2d(4, 6, 2, 2)),
        nn.Sequential(nn.ReLU(), norm(4), nn.ReLU()),
        Twice(),
        Dynamic(),
    ],
    ids=["padding", "transposed", "none", "read twice", "computed weight"],
)
def test_becomes_one_where_no_convolution_takes_it_in(prove, network: nn.Module) -> None:
    done = prove(network, FoldBatchNorm())
    assert has_no_norm(done)
    assert "as a depthwise convolution" in done.proofs[0].detail


def test_refuses_what_is_no_feature_map(prove) -> None:
    line = nn.BatchNorm1d(4)
    line.running_mean = torch.randn(4)
    done = prove(nn.Sequential(nn.Flatten(2), line), FoldBatchNorm())
    assert not done.proofs
    assert done.refusals[0].reason.startswith("no feature map")
