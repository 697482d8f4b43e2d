"""Leaky ReLU from operators that quantize."""

import pytest
from torch import nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.leaky_relu import ExpandLeakyRelu


@pytest.mark.parametrize(("slope", "batch"), [(0.0, 1), (0.01, 4), (0.2, 4), (1.0, 1)])
def test_is_exact(prove, slope, batch) -> None:
    done = prove(nn.LeakyReLU(slope), ExpandLeakyRelu(), shape=(batch, 4, 8, 8))
    assert len(done.proofs) == 1
    assert op_counts(done.program).keys() == {"aten.mul.Tensor", "aten.maximum"}


@pytest.mark.parametrize("slope", [-0.1, 1.5])
def test_the_maximum_needs_a_slope_in_range(prove, slope) -> None:
    done = prove(nn.LeakyReLU(slope), ExpandLeakyRelu())
    assert f"a = {slope}" in done.refusals[0].reason
