"""Constants added behind a convolution, or behind a sum with one in it."""

import pytest
import torch
from of_function import Of
from torch import nn

from pockethdr.export.aten import aten, op_counts, shape
from pockethdr.export.rewrites.bias_of_sum import AddIntoBias
from pockethdr.models.dynamic_conv import GLOBAL, DynamicConv, DynamicSpec

OFFSET = torch.tensor([0.5, -1.0, 2.0, 0.25]).reshape(4, 1, 1)


@pytest.fixture
def layers() -> list[nn.Conv2d]:
    torch.manual_seed(4)
    return [nn.Conv2d(4, 4, 3, padding=1, bias=bias) for bias in (True, False)]


class _Layers(Of):
    def __init__(self, function, layers) -> None:
        super().__init__(function)
        self.layers = nn.ModuleList(layers)


@pytest.mark.parametrize("of", [0, 1])
def test_behind_a_convolution(prove, layers, of) -> None:
    done = prove(_Layers(lambda x: layers[of](x) + OFFSET, layers), AddIntoBias())
    assert op_counts(done.program) == {"aten.conv2d": 1}
    assert len(done.proofs) == 1


def test_behind_a_sum_of_sums(prove, layers) -> None:
    a, b = layers
    offset = OFFSET[None]
    module = _Layers(lambda x: offset + (x.exp() + (a(x) + b(x))), layers)
    done = prove(module, AddIntoBias())
    assert op_counts(done.program) == {"aten.conv2d": 2, "aten.add.Tensor": 2, "aten.exp": 1}


def test_behind_a_transposed_and_grouped_one(prove) -> None:
    layer = nn.ConvTranspose2d(4, 4, 2, 2, groups=2)
    done = prove(_Layers(lambda x: layer(x) + OFFSET, [layer]), AddIntoBias())
    assert len(done.proofs) == 1
    assert not list(done.program.graph.find_nodes(op="call_function", target=aten.add.Tensor))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, x: (y := a(x)) * (y + OFFSET),  # another reads the convolution
        lambda a, x: torch.add(a(x), OFFSET, alpha=2),
        lambda a, x: torch.relu(a(x)) + OFFSET,
        lambda a, x: a(x).mean((2, 3), keepdim=True) + OFFSET,
        lambda a, x: a(x) + OFFSET.reshape(1, 1, 1, 4).repeat(1, 1, 1, 2),  # of columns
    ],
)
def test_what_is_no_bias_stays(prove, layers, function) -> None:
    done = prove(_Layers(lambda x: function(layers[0], x), layers), AddIntoBias())
    assert not done.proofs
    assert not done.refusals


def test_a_computed_weight_is_refused(prove, layers) -> None:
    def mixed(x):
        kernel = layers[0].weight * x.mean()
        return torch.conv2d(x, kernel, padding=1) + OFFSET

    done = prove(_Layers(mixed, layers), AddIntoBias())
    assert "weight" in done.refusals[0].reason


def test_a_dynamic_convolution_per_image_adds_its_bias_once(prove) -> None:
    from pockethdr.export.static import standard_rewrites

    torch.manual_seed(5)
    layer = DynamicConv(DynamicSpec(4, 4, 4, 4, 4, 4, GLOBAL))
    nn.init.normal_(layer.fixed.bias)
    done = prove(_Layers(lambda x: layer(x, x), [layer]), *standard_rewrites())
    assert "bias_of_sum" in {proof.rewrite for proof in done.proofs}
    sums = list(done.program.graph.find_nodes(op="call_function", target=aten.add.Tensor))
    assert [shape(node) for node in sums if len(shape(node)) == 4] == [(1, 4, 8, 8)]
