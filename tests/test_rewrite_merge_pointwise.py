"""A pointwise convolution merges into its neighbour when that is exact and not dearer."""

import pytest
import torch
from torch import nn

from pockethdr.export.aten import Conv, convs, op_counts
from pockethdr.export.rewrites.merge_pointwise import MergePointwise


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x) + x


@pytest.mark.parametrize(
    ("biases", "batch"),
    [((True, True), 4), ((True, False), 1), ((False, True), 4), ((False, False), 1)],
)
@pytest.mark.parametrize(
    "first",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 5, "stride": 2, "padding": 1, "dilation": 2},
        {"kernel_size": (3, 1)},
    ],
    ids=str,
)
def test_pointwise_second(prove, first, biases, batch) -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 6, **first, bias=biases[0]), nn.Conv2d(6, 5, 1, bias=biases[1])
    )
    done = prove(net, MergePointwise(), shape=(batch, 4, 12, 12))
    assert op_counts(done.program) == {"aten.conv2d": 1}
    assert len(done.proofs) == 1


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
def test_pointwise_first(prove, biases) -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 1, bias=biases[0]), nn.Conv2d(6, 5, 3, bias=biases[1]))
    assert op_counts(prove(net, MergePointwise()).program) == {"aten.conv2d": 1}


def test_pointwise_first_without_bias_in_front_of_padding(prove) -> None:
    second = nn.Conv2d(6, 5, 3, padding=1, stride=2)
    done = prove(nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), second), MergePointwise())
    assert len(done.proofs) == 1


def test_transposed_neighbours(prove) -> None:
    net = nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2), nn.Conv2d(6, 3, 1))
    assert op_counts(prove(net, MergePointwise()).program) == {"aten.conv_transpose2d.input": 1}
    net = nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), nn.ConvTranspose2d(6, 3, 2, 2))
    assert op_counts(prove(net, MergePointwise()).program) == {"aten.conv_transpose2d.input": 1}


@pytest.mark.parametrize("first", [nn.Conv2d, nn.ConvTranspose2d])
def test_equal_groups(prove, first) -> None:
    net = nn.Sequential(first(4, 6, 3, groups=2), nn.Conv2d(6, 4, 1, groups=2))
    done = prove(net, MergePointwise())
    assert [Conv(node).groups for node in convs(done.program)] == [2]
    assert len(done.proofs) == 1


def test_three_in_a_row(prove) -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1))
    assert op_counts(prove(net, MergePointwise()).program) == {"aten.conv2d": 1}


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (ReadTwice(), "also read elsewhere"),
        (nn.Sequential(nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)), "would cost"),
        (nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1)), "do not line up"),
        (nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)), "pads with 0"),
    ],
)
def test_refuses(prove, net, reason) -> None:
    done = prove(net, MergePointwise(), shape=(1, 4 if isinstance(net, ReadTwice) else 8, 8, 8))
    assert not done.proofs
    assert reason in done.refusals[0].reason
