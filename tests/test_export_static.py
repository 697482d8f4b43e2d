"""Own networks that insist on sizes are understood, however they say no."""

from __future__ import annotations

from pathlib import Path

import pytest

from pockethdr.errors import ModelError
from pockethdr.export.static import size_multiple, static_program
from pockethdr.models.load import Loaded, example_frames, load_model
from pockethdr.models.receptive import sight_of

INSISTS = """
import torch
from torch import nn


class Insists(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short, mid, long):
        height, width = short.shape[2:]
        CHECK
        return torch.sigmoid(self.body(short + mid + long))


def build():
    torch.manual_seed(0)
    return Insists()
"""

ASSERTS = "assert height % 8 == 0 and width % 8 == 0"
RAISES = """if height % 8 or width % 8:
            raise ValueError(f"{height} is no multiple of eight")"""
BRANCHES = "if short.mean() > 0.5: return mid[:, :4]"
SQUARE = "assert height == width, 'squares only'"
NEVER_LARGER = "assert height <= 64"


def insisting(on: str, folder: Path) -> Loaded:
    (folder / "insists.py").write_text(INSISTS.replace("CHECK", on))
    return load_model(f"{folder / 'insists.py'}:build", domain="raw")


@pytest.mark.parametrize("on", [ASSERTS, RAISES])
def test_the_multiple_of_a_network_that_checks_its_size(on: str, tmp_path: Path) -> None:
    assert size_multiple(insisting(on, tmp_path).module, "raw") == 8


@pytest.mark.parametrize(
    ("on", "said"), [(ASSERTS, "AssertionError"), (RAISES, "68 is no multiple")]
)
def test_a_size_that_the_network_refuses_is_named(on: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"does not take frames of 68x64: {said}") as refused:
        static_program(insisting(on, tmp_path), size=(68, 64))
    assert "a multiple of 8" in str(refused.value)


def test_a_branch_on_values_is_refused_with_its_line_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=r"data-dependent .* \(insists.py:13\)\n"):
        static_program(insisting(BRANCHES, tmp_path), size=(64, 64))
    assert capfd.readouterr() == ("", "")


def test_a_network_that_takes_hardly_any_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no frames of 65 to 128 pixels"):
        size_multiple(insisting(NEVER_LARGER, tmp_path).module, "raw")


def test_a_network_whose_halo_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"frames of 192x64, on which .* squares only"):
        sight_of(insisting(SQUARE, tmp_path).module, example_frames("raw", 64, 64), 1)
