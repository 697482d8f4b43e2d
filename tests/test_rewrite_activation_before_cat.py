"""Activations behind a concatenation, against the same in front of it."""

import pytest
import torch
import torch.nn.functional as F
from of_function import Of
from torch import Tensor, nn

from pockethdr.export.aten import aten, op_counts
from pockethdr.export.rewrites.activation_before_cat import ActivateBeforeCat


class Skip(nn.Module):
    """A skip connection that its encoder reads too, activated where it is joined."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(6, 6, 3, padding=1)
        self.out = nn.Conv2d(12, 4, 1)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.deep(F.leaky_relu(skip, 0.1))
        return self.out(self.activation(torch.cat([deep, skip], 1)))


@pytest.mark.parametrize("activation", [F.relu, F.relu6, lambda x: F.leaky_relu(x, 0.3)])
def test_is_exact(prove, activation) -> None:
    done = prove(Skip(activation), ActivateBeforeCat())
    assert [proof.max_relative_error for proof in done.proofs] == [0.0]
    (joined,) = done.program.graph.find_nodes(op="call_function", target=aten.cat.default)
    assert [part.all_input_nodes[0].name for part in joined.args[0]] == ["conv2d_1", "conv2d"]


def test_a_part_joined_twice_is_activated_once(prove) -> None:
    done = prove(Of(lambda x: F.relu(torch.cat([x, x * 2, x], -1))), ActivateBeforeCat())
    assert op_counts(done.program)["aten.relu"] == 2


def test_what_others_read_stays(prove) -> None:
    def read_twice(x):
        joined = torch.cat([x, x * 2], 1)
        return F.relu(joined) + joined

    assert not prove(Of(read_twice), ActivateBeforeCat()).proofs


def test_pieces_of_one_tensor_are_activated_in_one_go(prove) -> None:
    def rolled(x):
        return F.relu(torch.cat([x[..., 3:], x[..., :3]], -1))

    done = prove(Of(rolled), ActivateBeforeCat())
    assert not done.proofs
    assert "pieces of one tensor" in done.refusals[0].reason
