"""Padding modes from slices and concatenations."""

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.reflect_pad import ExpandReflectPad


class Pad(nn.Module):
    def __init__(self, pads: tuple[int, ...], mode: str) -> None:
        super().__init__()
        self.pads, self.mode = pads, mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pad(x, self.pads, mode=self.mode) + 0


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("pads", "batch"),
    [((1, 1, 1, 1), 4), ((1, 2, 1, 2), 1), ((2, 0, 0, 3), 4), ((7, 7, 7, 7), 1)],
)
def test_is_exact(prove, pads, mode, batch) -> None:
    done = prove(Pad(pads, mode), ExpandReflectPad(), shape=(batch, 4, 8, 9))
    assert [proof.max_relative_error for proof in done.proofs] == [0.0]
    assert set(op_counts(done.program)) == {"aten.slice.Tensor", "aten.cat", "aten.add.Tensor"}


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_mode_of_a_convolution(prove, mode) -> None:
    done = prove(nn.Conv2d(4, 4, 5, padding=2, padding_mode=mode), ExpandReflectPad())
    assert len(done.proofs) == 1


@pytest.mark.parametrize("module", [nn.ReflectionPad2d(2), nn.ReplicationPad2d((1, 2, 3, 0))])
def test_padding_modules(prove, module) -> None:
    assert len(prove(module, ExpandReflectPad()).proofs) == 1


def test_zero_padding_stays(prove) -> None:
    done = prove(nn.ZeroPad2d(1), ExpandReflectPad())
    assert not done.proofs
    assert not done.refusals


def test_refuses_to_crop(prove) -> None:
    done = prove(Pad((-1, 2, 0, 0), "reflect"), ExpandReflectPad())
    assert not done.proofs
    assert "negative padding" in done.refusals[0].reason
