"""What ships keeps a network with something for each rewrite to do exact, and does it."""

import pytest
import torch
from torch import Tensor, nn

from pockethdr.export import rewrites
from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites import default_rewrites


class Small(nn.Module):
    """Something for every rewrite to do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(16, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Dropout(),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
            nn.Conv2d(8, 8, 1),
            nn.ConvTranspose2d(8, 4, 5, 2, padding=2, output_padding=1),
        )
        self.same = nn.Conv2d(4, 4, 2, padding="same")
        self.norm = nn.InstanceNorm2d(4)
        self.own = nn.Conv2d(4, 4, 3, padding=1)
        self.register_buffer("gain", torch.rand(4))

    def forward(self, frame: Tensor) -> Tensor:
        x = self.norm(self.body(frame))
        x = nn.functional.interpolate(x, scale_factor=0.5, mode="bicubic")
        x = self.same(x) * self.same(x).sigmoid()
        x = x + self.own(x) + self.gain.reshape(4, 1, 1)
        x = x + nn.functional.unfold(x, 3, padding=1).unflatten(1, (4, 9)).mean(2).view_as(x)
        x = (x.flatten(2) - 0.1).abs().view_as(x)
        x = x - x.mean(1, keepdim=True).expand_as(x)
        skip = nn.functional.leaky_relu(x - 0.1, 0.1)
        x = x + torch.relu(torch.cat([skip, x - 0.1], 1)).sum(1, keepdim=True)
        n, c, h, w = x.shape
        x = (x.reshape(n, 2, 2, h, w) * (self.gain * 2).reshape(1, 2, 2, 1, 1)).reshape(n, c, h, w)
        return x + nn.functional.adaptive_avg_pool2d(x, (2, 2)).mean((2, 3), keepdim=True)


def test_each_of_them_applies_and_is_exact(prove) -> None:
    done = prove(Small(), *default_rewrites())
    counts = op_counts(done.program)
    disliked = ("unshuffle", "norm", "dropout", "conv_transpose", "adaptive", "conv2d.padding")
    assert not [op for op in counts if any(word in op for word in disliked)]
    applied = {proof.rewrite for proof in done.proofs}
    assert applied == {rewrite.name for rewrite in default_rewrites()}


@pytest.mark.parametrize(
    "name", ["MergeConvShuffle", "PolyphaseDilated", "UnshuffleStridedConv", "ExpandLeakyRelu"]
)
def test_what_was_measured_and_does_not_ship_says_so(name: str) -> None:
    """Each has exactness tests of its own."""
    found = getattr(rewrites, name)
    assert name in str(rewrites.__doc__)
    assert found not in {type(rewrite) for rewrite in default_rewrites()}
