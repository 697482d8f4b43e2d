"""Strided convolutions on phases."""

import pytest
from torch import nn

from pockethdr.export.aten import Conv, convs, op_counts
from pockethdr.export.rewrites.strided import UnshuffleStridedConv


@pytest.mark.parametrize(("bias", "batch"), [(True, 4), (False, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_5x5_becomes_3x3(prove, groups, bias, batch) -> None:
    net = nn.Conv2d(4, 6, 5, stride=2, padding=2, groups=groups, bias=bias)
    done = prove(net, UnshuffleStridedConv(), shape=(batch, 4, 8, 12))
    assert op_counts(done.program) == {"aten.pixel_unshuffle": 1, "aten.conv2d": 1}
    (conv,) = (Conv(node) for node in convs(done.program))
    assert (conv.kernel, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
    assert len(done.proofs) == 1


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dense"),
    [
        (2, 2, 0, (1, 1)),
        (4, 2, 1, (3, 3)),
        (6, 2, 2, (3, 3)),
        (9, 3, 3, (3, 3)),
        (4, 4, 0, (1, 1)),
        ((5, 2), 2, (2, 0), (3, 1)),
    ],
)
def test_other_kernels(prove, kernel, stride, padding, dense) -> None:
    net = nn.Conv2d(4, 6, kernel, stride=stride, padding=padding)
    done = prove(net, UnshuffleStridedConv(), shape=(1, 4, 12, 12))
    assert [Conv(node).kernel for node in convs(done.program)] == [dense]
    assert len(done.proofs) == 1


@pytest.mark.parametrize(
    ("net", "size", "reason"),
    [
        (nn.Conv2d(4, 4, 3, stride=2, padding=1), 8, "reach 1 blocks to one side and 0"),
        (nn.Conv2d(4, 4, 5, stride=2, padding=2), 9, "not divisible by the stride 2"),
        (nn.Conv2d(4, 4, 5, stride=2, padding=1), 8, "not exactly a 2th"),
        (nn.Conv2d(4, 4, 5, stride=(2, 1), padding=2), 8, "equal strides"),
        (nn.Conv2d(4, 4, 3, stride=2, padding=2, dilation=2), 8, "without dilation"),
    ],
)
def test_refuses(prove, net, size, reason) -> None:
    done = prove(net, UnshuffleStridedConv(), shape=(1, 4, size, size))
    assert not done.proofs
    assert reason in done.refusals[0].reason
