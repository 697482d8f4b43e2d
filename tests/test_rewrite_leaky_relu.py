"""Leaky ReLU from operators that quantize."""

import pytest
from torch import nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.leaky_relu import ExpandLeakyRelu


@pytest.mark.parametrize(("slope", "batch"), [(0.0, 1), (0.01, 4), (0.2, 4), (1.0, 1)])
@pytest.mark.parametrize("form", ["max", "relu"])
def test_is_exact(prove, form, slope, batch) -> None:
    done = prove(nn.LeakyReLU(slope), ExpandLeakyRelu(form), shape=(batch, 4, 8, 8))
    assert len(done.proofs) == 1
    assert ("aten.maximum" in op_counts(done.program)) == (form == "max")
    assert "aten.leaky_relu" not in op_counts(done.program)


@pytest.mark.parametrize("slope", [-0.1, 1.5])
def test_the_maximum_needs_a_slope_in_range(prove, slope) -> None:
    done = prove(nn.LeakyReLU(slope), ExpandLeakyRelu("max"))
    assert f"a = {slope}" in done.refusals[0].reason
    assert prove(nn.LeakyReLU(slope), ExpandLeakyRelu("relu")).proofs
