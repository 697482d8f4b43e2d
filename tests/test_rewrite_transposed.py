"""Transposed convolutions become a dense one and a pixel shuffle."""

import pytest
from torch import nn

from pockethdr.export.aten import Conv, convs, op_counts
from pockethdr.export.rewrites.transposed import ShuffleTransposedConv


@pytest.mark.parametrize(("groups", "bias", "batch"), [(1, True, 4), (2, False, 1)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "extra", "dense"),
    [
        (5, 2, 2, 1, 3),
        (2, 2, 0, 0, 1),
        (4, 2, 1, 0, 3),
        (3, 2, 1, 1, 3),
        (3, 3, 0, 0, 1),
        (7, 3, 2, 0, 3),
    ],
)
def test_becomes_dense(prove, kernel, stride, padding, extra, dense, groups, bias, batch) -> None:
    net = nn.ConvTranspose2d(
        4, 6, kernel, stride, padding, output_padding=extra, groups=groups, bias=bias
    )
    done = prove(net, ShuffleTransposedConv(), shape=(batch, 4, 5, 6))
    assert op_counts(done.program) == {"aten.conv2d": 1, "aten.pixel_shuffle": 1}
    (conv,) = (Conv(node) for node in convs(done.program))
    assert conv.kernel == (dense, dense)
    assert conv.out_channels == 6 * stride**2
    assert len(done.proofs) == 1


def test_disjoint_kernels_can_stay(prove) -> None:
    done = prove(nn.ConvTranspose2d(4, 6, 2, 2), ShuffleTransposedConv(keep_disjoint=True))
    assert op_counts(done.program) == {"aten.conv_transpose2d.input": 1}
    assert not done.refusals
    net = nn.ConvTranspose2d(4, 6, 5, 2, 2, output_padding=1)
    assert prove(net, ShuffleTransposedConv(keep_disjoint=True)).proofs
    in_groups = nn.ConvTranspose2d(4, 6, 2, 2, groups=2)
    assert prove(in_groups, ShuffleTransposedConv(keep_disjoint=True)).proofs


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.ConvTranspose2d(4, 4, 3, 1, 1), "stride 1"),
        (nn.ConvTranspose2d(4, 4, 5, 2, 2), "not exactly 2 times"),
        (nn.ConvTranspose2d(4, 4, 2, (2, 1)), "equal strides"),
        (nn.ConvTranspose2d(4, 4, 3, 2, 1, dilation=2), "dilation"),
    ],
)
def test_refuses(prove, net, reason) -> None:
    done = prove(net, ShuffleTransposedConv())
    assert not done.proofs
    assert reason in done.refusals[0].reason
