"""A convolution and a pixel shuffle become a transposed convolution, or stay DEPTH_TO_SPACE."""

import pytest
import torch
from torch import nn

from pockethdr.export.aten import Conv, convs, op_counts
from pockethdr.export.rewrites.conv_shuffle import MergeConvShuffle


class SpelledOut(nn.Module):
    def __init__(self, order: tuple[int, ...] = (0, 1, 4, 2, 5, 3)) -> None:
        super().__init__()
        self.order, self.conv = order, nn.Conv2d(4, 8, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        n, c, h, w = x.shape
        x = x.view(n, c // 4, 2, 2, h, w).permute(self.order)
        return x.reshape(n, c // 4, 2 * h, 2 * w)


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.conv(x)
        return nn.functional.pixel_shuffle(x, 2) + x.mean()


def even_bias(conv: nn.Conv2d, phases: int) -> nn.Conv2d:
    conv.bias.data = torch.randn(conv.out_channels // phases).repeat_interleave(phases)
    return conv


@pytest.mark.parametrize(("bias", "batch"), [(True, 4), (False, 1)])
@pytest.mark.parametrize(
    ("factor", "kernel", "padding", "tpadding"),
    [(2, 3, 1, 2), (2, 1, 0, 0), (3, 3, 1, 3), (2, 5, 1, 6), (2, 3, 2, 0)],
)
def test_merges(prove, factor, kernel, padding, tpadding, bias, batch) -> None:
    conv = nn.Conv2d(4, 3 * factor**2, kernel, padding=padding, bias=bias)
    conv = even_bias(conv, factor**2) if bias else conv
    net = nn.Sequential(conv, nn.PixelShuffle(factor))
    done = prove(net, MergeConvShuffle(), shape=(batch, 4, 8, 6))
    assert op_counts(done.program) == {"aten.conv_transpose2d.input": 1}
    (merged,) = (Conv(node) for node in convs(done.program))
    assert merged.kernel == (factor * kernel, factor * kernel)
    assert merged.padding == (tpadding, tpadding)
    assert len(done.proofs) == 1


def test_merges_groups_and_flat_kernels(prove) -> None:
    conv = nn.Conv2d(4, 16, (3, 1), padding=(1, 0), groups=2, bias=False)
    done = prove(nn.Sequential(conv, nn.PixelShuffle(2)), MergeConvShuffle())
    assert op_counts(done.program) == {"aten.conv_transpose2d.input": 1}
    assert len(done.proofs) == 1


def test_merges_the_spelled_out_form(prove) -> None:
    done = prove(SpelledOut(), MergeConvShuffle())
    assert op_counts(done.program) == {"aten.conv_transpose2d.input": 1}


def test_another_order_is_no_shuffle(prove) -> None:
    done = prove(SpelledOut((0, 1, 4, 3, 5, 2)), MergeConvShuffle())
    assert not done.proofs
    assert not done.refusals


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Sequential(nn.Conv2d(4, 8, 3), nn.PixelShuffle(2)), "bias differs"),
        (nn.Sequential(nn.ReLU(), nn.PixelShuffle(2)), "no convolution directly"),
        (nn.Sequential(nn.Conv2d(4, 8, 3, 2, bias=False), nn.PixelShuffle(2)), "stride 1"),
        (nn.Sequential(nn.Conv2d(4, 8, 1, padding=1, bias=False), nn.PixelShuffle(2)), "reaches"),
        (nn.Sequential(nn.Conv2d(4, 8, 1, groups=4, bias=False), nn.PixelShuffle(2)), "groups"),
        (ReadTwice(), "read elsewhere"),
    ],
)
def test_refuses(prove, net, reason) -> None:
    done = prove(net, MergeConvShuffle())
    assert not done.proofs
    assert reason in done.refusals[0].reason
