"""Own networks that insist on sizes are understood, however they say no."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

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


class _Odd(nn.Module):
    """Computes on integers, truth values and infinities beside real numbers."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.middle, self.last = middle, nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.middle(short + mid + long)))


def _brightest(x: Tensor) -> Tensor:
    return x.gather(1, x.argmax(1, keepdim=True).expand(-1, 8, -1, -1))


def _where(x: Tensor) -> Tensor:
    return torch.where((x.mean(1, keepdim=True) > 1.5).expand(-1, 8, -1, -1), x, 0.5 * x)


def _share(x: Tensor) -> Tensor:
    return x * (x > 1.5).mean((2, 3), keepdim=True, dtype=torch.float32)


def _counted(x: Tensor) -> Tensor:
    return x * (x > 1.5).view(1, 2, 2, 2, *x.shape[2:]).sum(1).sum((1, 2))[:, None]


def _averaged(x: Tensor) -> Tensor:
    bright = (x > 1.5).view(1, 2, 2, 2, *x.shape[2:]).mean((1, 2), dtype=torch.float32)
    return x * bright.repeat(1, 4, 1, 1)


def _windowed(x: Tensor) -> Tensor:
    lit = (x[:, :1] > 1.5).float().view(1, 1, 1, *x.shape[2:])
    return (lit * x.view(1, 2, 4, *x.shape[2:])).sum(1).repeat(1, 2, 1, 1)


def _causal(x: Tensor) -> Tensor:
    seen = x.flatten(2) @ x.flatten(2).transpose(1, 2)
    mask = torch.full((8, 8), float("-inf")).triu(1)
    return (torch.softmax(seen + mask, -1) @ x.flatten(2)).view(x.shape)


def _masked(x: Tensor) -> Tensor:
    seen = x.flatten(2) @ x.flatten(2).transpose(1, 2)
    kept = torch.where(
        seen > seen.mean(-1, keepdim=True), seen, torch.full_like(seen, float("-inf"))
    )
    return (torch.softmax(kept, -1) @ x.flatten(2)).view(x.shape)


@pytest.mark.parametrize(
    "middle", [_brightest, _where, _share, _counted, _averaged, _windowed, _causal, _masked]
)
def test_what_is_no_real_number_is_left_alone(middle: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    network, frames = _Odd(middle).eval(), example_frames("raw", 64, 64, seed=4)
    done = static_program(Loaded("odd", "odd", "raw", network, None, None), size=(64, 64))
    with torch.no_grad():
        torch.testing.assert_close(done.program(*frames), network(*frames))
