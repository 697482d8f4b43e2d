"""Flattened feature maps are computed on before they are flattened."""

import pytest
import torch
from of_function import Of
from torch import Tensor, nn

from pockethdr.export.aten import arguments, batch_norm_of, op_counts, shape
from pockethdr.export.rewrites import FoldBatchNorm
from pockethdr.export.rewrites.late_views import ViewLater


def _ranks(program) -> dict[str, int]:
    return {
        node.name: len(shape(node))
        for node in program.graph.nodes
        if node.op == "call_function" and "reshape" not in node.name
    }


class Decomposed(nn.Module):
    """The middle of dynamic convolution decomposition (Li et al., ICLR 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.sin().flatten(2), x.cos().flatten(2)
        return torch.relu(self.norm(left + right)).view_as(x)


def test_a_chain_moves_as_a_whole_and_its_norm_becomes_a_convolution(prove) -> None:
    done = prove(Decomposed(), ViewLater(), FoldBatchNorm())
    assert [proof.rewrite for proof in done.proofs] == ["late_views", "batch_norm"]
    assert op_counts(done.program)["aten.conv2d"] == 1
    assert {rank for name, rank in _ranks(done.program).items() if "view" not in name} == {4}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.relu(x.sin().unsqueeze(2)),
        lambda x: x.sin().flatten() * x.cos().flatten(),
        lambda x: torch.clamp(x.sin().unflatten(1, (2, 2)), min=0.25, max=0.5),
        lambda x: x.sin().flatten(2) * 2.0,
    ],
)
def test_any_view_moves(prove, function) -> None:
    done = prove(Of(function), ViewLater())
    assert "late_views" in {proof.rewrite for proof in done.proofs}


class Viewed(nn.Module):
    """A norm whose factor is a view of four axes."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.rand(1, 4, 1, 1))
        self.register_buffer("zeros", torch.zeros(4))
        self.register_buffer("ones", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.factor.sin().view(4)
        return nn.functional.batch_norm(x.sin().flatten(2), self.zeros, self.ones, gain)


def test_only_the_map_of_a_norm_is_viewed_later(prove) -> None:
    done = prove(Viewed(), ViewLater())
    assert done.proofs
    (norm,) = {batch_norm_of(node) for node in done.program.graph.nodes} - {None}
    assert len(shape(arguments(norm)["input"])) == 4
    assert len(shape(arguments(norm)["weight"])) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flatten(2) + x.mean((2, 3)).unsqueeze(2),  # its other operand is no view of it
        lambda x: x.flatten(2) + x.transpose(2, 3)[..., :4].flatten(2).mean(),
        lambda x: x.unsqueeze(1) + x.unsqueeze(2),  # all pairs of channels
        lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2),
        lambda x: x.flatten(1).softmax(1),
    ],
)
def test_what_sees_the_view_stays(prove, function) -> None:
    assert not prove(Of(function), ViewLater()).proofs


def test_a_norm_over_other_channels_stays(prove) -> None:
    done = prove(nn.Sequential(nn.Flatten(1), nn.BatchNorm1d(4 * 8 * 8)), ViewLater())
    assert not done.proofs
