"""GroupNorm and InstanceNorm from means over the image."""

import pytest
from torch import nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.image_norm import ExpandImageNorm


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(2, 4),
        nn.GroupNorm(1, 4, eps=0.1),
        nn.GroupNorm(4, 4, affine=False),
        nn.InstanceNorm2d(4, eps=0.01),
        nn.InstanceNorm2d(4, affine=True),
    ],
)
def test_is_exact(prove, norm, batch) -> None:
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    done = prove(norm, ExpandImageNorm(), shape=(batch, 4, 8, 6))
    assert len(done.proofs) == 1
    assert not {"aten.group_norm", "aten.instance_norm"} & set(op_counts(done.program))


def test_running_statistics_stay(prove) -> None:
    norm = nn.InstanceNorm2d(4, track_running_stats=True)
    assert not prove(norm, ExpandImageNorm()).proofs


def test_refuses_other_ranks(prove) -> None:
    done = prove(nn.GroupNorm(2, 4), ExpandImageNorm(), shape=(1, 4, 8))
    assert done.refusals[0].reason == "its input has rank 3, not 4"
