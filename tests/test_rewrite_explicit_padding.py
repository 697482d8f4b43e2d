"""Unequal padding gets an operator of its own."""

import pytest
from torch import nn

from pockethdr.export.aten import Conv, convs, op_counts
from pockethdr.export.rewrites.explicit_padding import ExplicitPadding


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("kernel", "dilation", "batch"), [(2, 1, 4), (4, 1, 1), ((4, 3), 1, 4), (4, 3, 1)]
)
def test_even_kernels(prove, kernel, dilation, batch) -> None:
    net = nn.Conv2d(4, 6, kernel, padding="same", dilation=dilation, groups=2)
    done = prove(net, ExplicitPadding(), shape=(batch, 4, 9, 8))
    assert op_counts(done.program) == {"aten.pad": 1, "aten.conv2d": 1}
    assert [Conv(node).padding for node in convs(done.program)] == [(0, 0)]
    assert len(done.proofs) == 1


def test_odd_kernels_need_nothing(prove) -> None:
    assert not prove(nn.Conv2d(4, 6, 3, padding="same"), ExplicitPadding()).proofs
