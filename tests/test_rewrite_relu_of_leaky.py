"""A ReLU beside a leaky one, against one behind it."""

import torch.nn.functional as F
from of_function import Of

from pockethdr.export.aten import aten
from pockethdr.export.rewrites.relu_of_leaky import ReluOfLeaky


def test_is_exact_and_leaves_one_reader(prove) -> None:
    done = prove(Of(lambda x: F.leaky_relu(x, 0.1).exp() + F.relu(x)), ReluOfLeaky())
    assert [proof.max_relative_error for proof in done.proofs] == [0.0]
    (x,) = done.program.graph.find_nodes(op="placeholder")
    assert [reader.target for reader in x.users] == [aten.leaky_relu.default]


def test_a_leaky_one_behind_it_does_not_serve(prove) -> None:
    done = prove(Of(lambda x: F.relu(x).exp() + F.leaky_relu(x, 0.1)), ReluOfLeaky())
    assert not done.proofs
    assert not done.refusals


def test_a_slope_below_zero_is_refused(prove) -> None:
    done = prove(Of(lambda x: F.leaky_relu(x, -0.5) + F.relu(x)), ReluOfLeaky())
    assert not done.proofs
    assert "it is -0.5" in done.refusals[0].reason
