"""Unfolding by depthwise convolutions."""

import pytest
import torch.nn.functional as F
from of_function import Of

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.unfold import UnfoldByConvolution


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (1, 5), "dilation": 2, "padding": (0, 4)},
        {"kernel_size": 2, "stride": 2},
    ],
)
def test_is_exact(prove, options) -> None:
    done = prove(Of(lambda x: F.unfold(x, **options)), UnfoldByConvolution(), shape=(2, 4, 8, 6))
    assert [proof.max_relative_error for proof in done.proofs] == [0.0]
    assert op_counts(done.program) == {"aten.conv2d": 1, "aten.reshape": 1}


def test_an_image_without_a_batch_is_left(prove) -> None:
    done = prove(Of(lambda x: F.unfold(x[0], 3)), UnfoldByConvolution())
    assert "without a batch" in done.refusals[0].reason
