"""Sums, softmax and joins above rank 4; element-wise ones are in test_export_lowrank."""

import pytest
import torch
from of_function import Of

from pockethdr.export.aten import aten, shape
from pockethdr.export.rewrites.rank import MAX_RANK, ReduceRank

EXPERTS = torch.rand(2, 4, 4, 3, 3, generator=torch.Generator().manual_seed(0))


def _ranks(program) -> set[int]:
    """Of what is computed, moves aside."""
    moves = (aten.view.default, aten.reshape.default, aten.expand.default, aten.unsqueeze.default)
    return {
        len(shape(node))
        for node in program.graph.nodes
        if node.op == "call_function" and node.target not in moves
    }


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.view(1, 2, 2, 8, 8).sum(1),
        lambda x: x.view(1, 2, 2, 8, 8).mean((1, 3), keepdim=True),
        lambda x: x.view(1, 2, 1, 2, 8, 8).sum((2, 3)),
        lambda x: x.view(1, 2, 2, 8, 8).softmax(2).view(1, 4, 8, 8),
        lambda x: x.view(1, 2, 2, 1, 8, 8).softmax(1),
        lambda x: torch.stack([x.view(1, 2, 2, 8, 8), x.view(1, 2, 2, 8, 8) * 2], 2),
        lambda x: torch.cat([x.view(1, 2, 2, 8, 8), x.view(1, 2, 2, 8, 8)], 3),
    ],
)
def test_is_exact_at_lower_rank(prove, function) -> None:
    done = prove(Of(function), ReduceRank())
    assert done.proofs
    assert not done.refusals
    assert max(_ranks(done.program)) <= MAX_RANK


def test_attention_over_experts(prove) -> None:
    """As ODConv writes it: rank 6, which Core ML does not have."""

    def mixed(x):
        weights = torch.softmax(x.mean((2, 3))[:, :2].view(1, 2, 1, 1, 1, 1), 1)
        return torch.conv2d(x, (weights * EXPERTS).sum(1).view(4, 4, 3, 3), padding=1)

    done = prove(Of(mixed), ReduceRank())
    assert not done.refusals
    assert max(_ranks(done.program)) <= MAX_RANK


def test_a_sum_over_every_other_axis_is_refused(prove) -> None:
    done = prove(Of(lambda x: x.view(2, 2, 2, 4, 2, 4).sum((1, 3, 5))), ReduceRank())
    assert done.refusals[0].reason == "its axes fall into 6 runs"
