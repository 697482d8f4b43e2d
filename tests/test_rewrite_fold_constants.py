"""Constant values are stored once, and only the largest of them."""

import torch
from torch import nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.fold_constants import FoldConstants


class Computed(nn.Module):
    """Weights computed by repeat and matmul, as in the lowered dynamic convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 4, 1, 1))
        self.left, self.right = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        repeated = torch.conv2d(x, self.weight.repeat(3, 1, 1, 1))
        product = torch.conv2d(x, (self.left @ self.right)[:, :, None, None])
        return repeated + product + torch.arange(8)


class Filled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(64, 64)


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.weight.split(4)
        return torch.conv2d(x, first) * torch.conv2d(x, second)


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0 * torch.rand(8)


def test_folds_maximal_values(prove) -> None:
    done = prove(Computed(), FoldConstants())
    assert op_counts(done.program) == {"aten.conv2d": 2, "aten.add.Tensor": 2}
    assert len(done.proofs) == 0 or all(proof.holds() for proof in done.proofs)
    assert len(list(done.program.buffers())) == 3
    assert not list(done.program.parameters())


def test_folds_parts_of_a_tuple(prove) -> None:
    done = prove(Split(), FoldConstants())
    assert op_counts(done.program) == {"aten.conv2d": 2, "aten.mul.Tensor": 1}


def test_a_plain_weight_stays_as_it_is(prove) -> None:
    done = prove(nn.Conv2d(4, 4, 3), FoldConstants())
    assert not done.proofs
    assert not done.refusals


def test_refuses_to_store_a_filled_image(prove) -> None:
    done = prove(Filled(), FoldConstants(max_values=1000), shape=(1, 1, 64, 64))
    (refusal,) = done.refusals
    assert "would store 4096 values computed from 0" in refusal.reason
    assert prove(Filled(), FoldConstants(), shape=(1, 1, 64, 64)).proofs


def test_random_values_are_no_constants(prove) -> None:
    done = prove(Random(), FoldConstants())
    assert op_counts(done.program)["aten.rand"] == 1
