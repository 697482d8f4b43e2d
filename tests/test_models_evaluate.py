"""Scores: of whole frames, and of tiles as Mobile-HDR's own evaluation has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sources_cache import filled
from torch import Tensor, nn

from pockethdr.brackets import metrics
from pockethdr.brackets.bracket import RAW, Bracket, Frame
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.metadata import NPZ_ORDERS
from pockethdr.brackets.simulate import SimulationSettings, simulate, write_bracket
from pockethdr.cli import main
from pockethdr.commands import CHANNEL_ORDERS
from pockethdr.errors import BracketError
from pockethdr.models.evaluate import compared


class Aligned(nn.Module):
    """The aligned short frame; remembers what sizes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        self.seen.append(tuple(short.shape[-2:]))
        return short[:, 4:]


def bracket_of(height: int, width: int) -> Bracket:
    """Random packed frames of ratio 2, the truth apart from the short frame by 0.01."""
    rng = np.random.default_rng(0)
    mosaics = [rng.uniform(0, 0.9, (2 * height, 2 * width)).astype(np.float32) for _ in range(3)]
    frames = [Frame(None, mosaic) for mosaic in mosaics]
    bracket = Bracket("b", RAW, (frames[0], frames[1], frames[2]), (1.0, 2.0, 4.0))
    truth = bracket.inputs()[0][0, :4] + np.float32(0.01)
    return Bracket("b", RAW, bracket.frames, bracket.ratios, ground_truth=truth)


def test_a_known_error_has_a_known_score() -> None:
    bracket = bracket_of(40, 30)
    (row,) = compared(Aligned(), [bracket])
    assert row.network.psnr_l == pytest.approx(40.0, abs=1e-3)
    truth = bracket.ground_truth
    assert truth is not None
    assert row.network.ssim_mu == pytest.approx(metrics.ssim_mu(truth - 0.01, truth), abs=1e-7)
    assert row.merge.psnr_mu == metrics.psnr_mu(weighted_merge(bracket), truth)


def test_the_official_way_drops_what_fills_no_tile() -> None:
    bracket, network = bracket_of(520, 300), Aligned()
    truth = bracket.ground_truth
    assert truth is not None
    truth[:, 512:], truth[:, :, 256:] = 0.0, 0.0  # a remainder that would ruin the score
    (row,) = compared(network, [bracket], official=True)
    assert network.seen == [(256, 256), (256, 256)]
    assert row.network.psnr_l == pytest.approx(40.0, abs=1e-3)
    (whole,) = compared(network, [bracket])
    assert whole.network.psnr_l < 20
    with pytest.raises(BracketError, match="leave --official out"):
        list(compared(network, [bracket_of(200, 300)], official=True))


def test_tiles_lie_where_they_were_cut() -> None:
    bracket = bracket_of(512, 512)
    (tiled,), (whole,) = (compared(Aligned(), [bracket], official=o) for o in (True, False))
    assert tiled.network == whole.network


def test_without_ground_truth_there_is_no_score() -> None:
    bracket = bracket_of(40, 30)
    assert not list(compared(Aligned(), [Bracket("b", RAW, bracket.frames, bracket.ratios)]))


def test_the_command_scores_and_refuses(tmp_path: Path) -> None:
    scene = np.random.default_rng(0).uniform(0, 1, (96, 96, 3))
    write_bracket(simulate(scene, SimulationSettings(), seed=0), tmp_path / "brackets" / "one")
    command = ["evaluate", "dsan-m16", "--brackets", str(tmp_path / "brackets")]
    scores = tmp_path / "made" / "scores.json"
    result = CliRunner().invoke(main, [*command, "--json", str(scores)])
    assert result.exit_code == 0, result.output
    assert "mean of 1" in result.output
    (row,) = json.loads(scores.read_text())
    assert row["bracket"] == "one"
    assert set(row["network"]) == {"psnr_mu", "ssim_mu", "psnr_l", "ssim_l"}
    refused = CliRunner().invoke(main, [*command, "--official"])
    assert refused.exit_code == 2
    assert "leave --official out" in refused.output


_HALVES = """
import torch

class Halves(torch.nn.Module):
    def forward(self, short, mid, long):
        twice = torch.nn.functional.interpolate(mid[:, 4:, ::2, ::2], scale_factor=2.0)
        return torch.sigmoid(mid[:, :4] + twice)
"""


def test_an_own_network_is_given_sizes_that_it_takes(tmp_path: Path) -> None:
    scene = np.random.default_rng(0).uniform(0, 1, (94, 90, 3))
    write_bracket(simulate(scene, SimulationSettings(), seed=0), tmp_path / "odd")
    (tmp_path / "halves.py").write_text(_HALVES)
    model = f"{tmp_path / 'halves.py'}:Halves"
    result = CliRunner().invoke(main, ["evaluate", model, "--brackets", str(tmp_path / "odd")])
    assert result.exit_code == 0, result.output
    assert "scoring: odd (1/1)" in result.output


_DARKS = """
import torch

class Darks(torch.nn.Module):
    def forward(self, short, mid, long):
        return torch.sigmoid(mid[:, :4]) * (long[:, :4] / long[:, :4])
"""


def test_what_is_no_image_is_not_scored(tmp_path: Path) -> None:
    """0 / 0 on black, of which the frames that a network is tried on hold none."""
    scene = np.random.default_rng(0).uniform(0, 1, (96, 96, 3))
    scene[:32] = 0
    dark = SimulationSettings(noise=(0.0, 0.0))
    write_bracket(simulate(scene, dark, seed=0), tmp_path / "black")
    (tmp_path / "darks.py").write_text(_DARKS)
    model = f"{tmp_path / 'darks.py'}:Darks"
    result = CliRunner().invoke(main, ["evaluate", model, "--brackets", str(tmp_path / "black")])
    assert result.exit_code == 2, result.output
    assert "returns NaN or infinity on black" in result.output


def test_scores_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    """The brackets do not exist: it is said before they are looked for."""
    (tmp_path / "file").write_text("mine")
    command = ["evaluate", "dsan-m16", "--brackets", str(tmp_path / "gone")]
    refusals = {"file/scores.json": "a file lies where a folder", ".": "is a folder"}
    for place, refusal in refusals.items():
        result = CliRunner().invoke(main, [*command, "--json", str(tmp_path / place)])
        assert result.exit_code == 2, result.output
        assert refusal in result.output
        assert "gone" not in result.output
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_channel_orders_are_those_that_exist(command: str) -> None:
    assert CHANNEL_ORDERS == NPZ_ORDERS
    result = CliRunner().invoke(main, [command, "dsan-m16", "--channel-order", "XYZW"])
    assert result.exit_code == 2
    assert all(order in result.output for order in NPZ_ORDERS)


@pytest.mark.parametrize("data", ["simulated", "mobile-hdr"])
def test_the_command_trains(data: str, tmp_path: Path, shared_brackets: Path) -> None:
    sources = {
        "simulated": filled(tmp_path / "cache"),
        "mobile-hdr": shared_brackets / "mobilehdr_layout_sample",
    }[data]
    command = ["train", "dsan-m16", "--data", data, "--root", str(sources), "--steps", "2"]
    small = ["--batch", "2", "--patch", "64", "--workers", "0", "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*command, *small])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "ema.safetensors").exists()
    again = CliRunner().invoke(main, [*command, *small])
    assert again.exit_code == 2
    assert "--resume" in again.output
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2
