"""A pixel unshuffle merges into the convolution behind it."""

import pytest
import torch
from torch import nn

from pockethdr.export.aten import Conv, convs, op_counts
from pockethdr.export.rewrites.unshuffle_conv import MergeUnshuffleConv


class SpelledOut(nn.Module):
    """The pixel unshuffle of 2 as exporters write it."""

    def __init__(self, order: tuple[int, ...] = (0, 1, 3, 5, 2, 4), *, copy: bool = False) -> None:
        super().__init__()
        self.order, self.copy, self.conv = order, copy, nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(self.order)
        x = x.clone() if self.copy else x
        return self.conv(x.reshape(n, 4 * c, h // 2, w // 2))


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pixel_unshuffle(x, 2)
        return self.conv(x) + x


@pytest.mark.parametrize(("bias", "batch"), [(True, 4), (False, 1)])
@pytest.mark.parametrize(
    ("factor", "kernel", "padding"), [(2, 3, 1), (2, 1, 0), (3, 3, 1), (2, 5, 1)]
)
def test_merges(prove, factor, kernel, padding, bias, batch) -> None:
    conv = nn.Conv2d(4 * factor**2, 6, kernel, padding=padding, bias=bias)
    net = nn.Sequential(nn.PixelUnshuffle(factor), conv)
    done = prove(net, MergeUnshuffleConv(), shape=(batch, 4, 18, 12))
    assert op_counts(done.program) == {"aten.conv2d": 1}
    (merged,) = (Conv(node) for node in convs(done.program))
    assert merged.kernel == (factor * kernel, factor * kernel)
    assert merged.stride == (factor, factor)
    assert len(done.proofs) == 1


def test_merges_groups_and_strides(prove) -> None:
    conv = nn.Conv2d(16, 6, (3, 1), stride=(1, 2), padding=(1, 0), groups=2)
    done = prove(nn.Sequential(nn.PixelUnshuffle(2), conv), MergeUnshuffleConv())
    assert op_counts(done.program) == {"aten.conv2d": 1}
    assert len(done.proofs) == 1


@pytest.mark.parametrize("copy", [True, False])
def test_merges_the_spelled_out_form(prove, copy) -> None:
    done = prove(SpelledOut(copy=copy), MergeUnshuffleConv())
    assert op_counts(done.program) == {"aten.conv2d": 1}


def test_another_order_is_no_unshuffle(prove) -> None:
    done = prove(SpelledOut((0, 1, 5, 3, 2, 4)), MergeUnshuffleConv())
    assert not done.proofs
    assert not done.refusals


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(16, 8, 1, groups=8)), "groups cut"),
        (
            nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(16, 8, 3, dilation=2, padding=2)),
            "dilated",
        ),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.ConvTranspose2d(16, 8, 2)), "transposed"),
        (ReadTwice(), "it would stay"),
    ],
)
def test_refuses(prove, net, reason) -> None:
    done = prove(net, MergeUnshuffleConv())
    assert not done.proofs
    assert reason in done.refusals[0].reason
