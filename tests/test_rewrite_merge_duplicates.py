"""What does the same to the same is computed once, and nothing else is."""

import copy
from collections.abc import Callable

import pytest
from torch import Tensor, fx, nn
from torch.nn import functional as F

from pockethdr.export.aten import aten, op_counts
from pockethdr.export.rewrites import default_rewrites
from pockethdr.export.rewrites.merge_duplicates import MergeDuplicates


class Both(nn.Module):
    """The sum of two branches that share a layer."""

    def __init__(self, one: Callable[..., Tensor], other: Callable[..., Tensor]) -> None:
        super().__init__()
        self.layer, self.one, self.other = nn.Conv2d(4, 4, 3, padding=1), one, other

    def forward(self, x: Tensor) -> Tensor:
        return self.one(self.layer, x) + self.other(self.layer, x)


def test_a_layer_called_twice_and_what_follows_it(prove) -> None:
    net = Both(lambda f, x: f(x).relu().tanh(), lambda f, x: f(f(x).relu()))
    done = prove(net, MergeDuplicates())
    assert op_counts(done.program) == {
        "aten.conv2d": 2, "aten.relu": 1, "aten.tanh": 1, "aten.add.Tensor": 1
    }  # fmt: skip
    assert [proof.place for proof in done.proofs] == ["conv2d_1", "relu_1"]
    assert {proof.detail for proof in done.proofs} == {
        "the same as `conv2d`, computed once", "the same as `relu`, computed once"
    }  # fmt: skip
    assert all(proof.max_relative_error == 0 for proof in done.proofs)


def test_parts_of_several_values(prove) -> None:
    net = Both(lambda f, x: x.split(2, 1)[0].relu(), lambda f, x: x.split(2, 1)[0].tanh())
    assert op_counts(prove(net, MergeDuplicates()).program)["aten.split.Tensor"] == 1


def test_constants_of_one_value(prove) -> None:
    layer = nn.Conv2d(4, 4, 3)
    twin = copy.deepcopy(layer)
    done = prove(Both(lambda f, x: layer(x), lambda f, x: twin(x).relu()), MergeDuplicates())
    assert op_counts(done.program)["aten.conv2d"] == 1


def test_a_layer_that_other_rewrites_fold_twice(prove) -> None:
    norm = nn.BatchNorm2d(4).eval()
    net = Both(lambda f, x: norm(f(x)).relu(), lambda f, x: norm(f(x)).tanh())
    done = prove(net, *default_rewrites())
    assert op_counts(done.program)["aten.conv2d"] == 1
    assert {proof.rewrite for proof in done.proofs} == {"batch_norm", "merge_duplicates"}


def test_what_others_fold_into_its_readers_is_not_merged_before(prove) -> None:
    """One convolution and two batch norms would be more work than two convolutions."""
    norms = [nn.BatchNorm2d(4).eval() for _ in range(2)]
    norms[0].running_var.mul_(2)
    net = Both(lambda f, x: norms[0](f(x)), lambda f, x: norms[1](f(x)))
    counts = op_counts(prove(net, *default_rewrites()).program)
    assert counts == {"aten.conv2d": 2, "aten.add.Tensor": 1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda f, x: f(x), lambda f, x: f(x.relu())),
        (lambda f, x: f(x), lambda f, x: F.conv2d(x, f.weight, padding=1)),
        (lambda f, x: f(x), lambda f, x: F.conv2d(x, f.weight * 1.001, f.bias, padding=1)),
        (lambda f, x: f(x), lambda f, x: F.conv2d(x, f.weight.flip(0), f.bias, padding=1)),
        (lambda f, x: f(x)[..., 1:], lambda f, x: f(x)[..., :-1]),
        (lambda f, x: x.argmax(1) - 1, lambda f, x: x.argmax(1) - 1.0),
        (lambda f, x: x.sum(1), lambda f, x: x.sum(2)),
    ],
    ids=["input", "bias", "weight", "order", "number", "kind of number", "axis"],
)
def test_what_differs_in_anything_stays(prove, one, other) -> None:
    counts = op_counts(prove(Both(one, other), MergeDuplicates(), shape=(1, 4, 4, 4)).program)
    assert max(counts.values()) == 2


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (aten.dropout.default, (0.5, True)),
        (aten.rand_like.default, ()),
        (aten.bernoulli.p, (0.5,)),
        (aten.relu_.default, ()),
        (aten.add_.Tensor, (1.0,)),
    ],
    ids=str,
)
def test_chance_and_side_effects_stay(op, args) -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output([graph.call_function(op, (x, *args)) for _ in range(2)])
    assert list(MergeDuplicates().pattern(fx.GraphModule(nn.Module(), graph))) == []


def test_a_wrong_merge_is_noticed(prove, monkeypatch) -> None:
    from pockethdr.export.rewrite import ProofError
    from pockethdr.export.rewrites import merge_duplicates

    def wrong(program: fx.GraphModule) -> dict[fx.Node, fx.Node]:
        first, second = program.graph.find_nodes(op="call_function", target=aten.conv2d.default)
        return {second: first}

    monkeypatch.setattr(merge_duplicates, "_firsts", wrong)
    net = Both(lambda f, x: f(x), lambda f, x: F.conv2d(x, f.weight * 1.001, f.bias, padding=1))
    with pytest.raises(ProofError, match="`merge_duplicates` changed `conv2d_1`"):
        prove(net, MergeDuplicates())
