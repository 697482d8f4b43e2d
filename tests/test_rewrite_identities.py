"""Operators that change nothing disappear, others stay."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.identities import RemoveIdentities


class Do(nn.Module):
    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x.relu()).neg()


@pytest.mark.parametrize(
    "what",
    [
        lambda x: x.clone(),
        lambda x: x.detach(),
        lambda x: x.contiguous(),
        lambda x: x.view(x.shape),
        lambda x: x.flatten(1).view(x.shape),
        lambda x: x.view(-1, 8).reshape(-1, 4).view(x.shape),
        lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
        lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 2, 1).transpose(2, -1),
        lambda x: x.permute(0, 1, 2, 3),
        lambda x: x.expand(-1, 4, 8, 8),
        lambda x: x[:, 0:4],
        lambda x: x[:, :, :100],
        lambda x: nn.functional.dropout(x, 0.5, training=False),
        lambda x: nn.functional.pad(x, (0, 0, 0, 0)),
        lambda x: nn.functional.interpolate(x, size=(8, 8)),
        lambda x: x.clone().detach().permute(0, 2, 1, 3).clone().transpose(1, 2),
    ],
)
def test_removes(prove, what) -> None:
    done = prove(Do(what), RemoveIdentities(), shape=(4, 4, 8, 8))
    assert op_counts(done.program) == {"aten.relu": 1, "aten.neg": 1}
    assert all(proof.max_relative_error == 0 for proof in done.proofs)


@pytest.mark.parametrize(
    ("what", "left"),
    [
        (lambda x: x.view(-1, 8).view(4, -1), "aten.reshape"),
        (lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 2, 1), "aten.permute"),
        (lambda x: x[:, :3], "aten.slice.Tensor"),
        (lambda x: x.flip(1), "aten.flip"),
        (lambda x: nn.functional.pad(x, (1, -1)), "aten.pad"),
        (lambda x: x[:1].expand(2, 4, 8, 8), "aten.expand"),
    ],
)
def test_keeps_what_changes_something(prove, what, left) -> None:
    done = prove(Do(what), RemoveIdentities())
    assert op_counts(done.program)[left] == 1


def test_a_network_of_identities_is_its_input(prove) -> None:
    done = prove(nn.Sequential(nn.Dropout(), nn.Identity()), RemoveIdentities())
    assert not op_counts(done.program)
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(done.program(x), x)
