"""Calibration on Ray: the same bytes as in one process, whatever happens to the workers."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pockethdr.brackets.bracket import Bracket, Frame
from pockethdr.calibration.calibration import CalibrationError
from pockethdr.calibration.observe import calibrate
from pockethdr.calibration.spread import calibrate_on_ray
from pockethdr.cluster import LOCAL
from pockethdr.export.trace import traced

pytest.importorskip("ray", reason="Ray is not installed: pip install 'pockethdr[scale]'")

TILE = (32, 32)
COUNT = 6


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(18, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return torch.relu(self.first(torch.cat([short, mid, long], 1)))


@pytest.fixture(scope="module")
def program() -> torch.fx.GraphModule:
    found = traced(Net(), tuple(torch.zeros(1, 6, *TILE) for _ in range(3)))
    for node in found.graph.nodes:
        node.meta["note"] = Net  # which no worker can import
    return found


def reader(killer: Path | None = None, broken: str = "") -> Callable[[Path], Bracket]:
    """Makes a bracket from a folder's name; a closure, so that workers need not import this file.

    The first worker that finds no file `killer` makes it, and dies.
    """

    def read(folder: Path) -> Bracket:
        if folder.name == broken:
            raise ValueError("cut off")
        if killer is not None and not killer.exists():
            killer.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        light = np.random.default_rng(int(folder.name)).uniform(0, 0.06, (48, 64, 3))
        short, mid, long = (
            Frame(None, np.clip(light * ratio, 0, 1).astype(np.float32)) for ratio in (1, 4, 16)
        )
        return Bracket(folder.name, "rgb", (short, mid, long), (1.0, 4.0, 16.0))

    return read


_SETTINGS: dict[str, Any] = {"seed": 1, "tile": TILE, "patches_per_bracket": 2}
_FOLDERS = [Path(str(number)) for number in range(COUNT)]


@pytest.fixture(scope="module")
def alone(program: torch.fx.GraphModule) -> str:
    return calibrate(program, _FOLDERS, read=reader(), **_SETTINGS).to_json()


def test_a_worker_that_dies_leaves_no_trace(
    program: torch.fx.GraphModule, alone: str, tmp_path: Path
) -> None:
    killer, told = tmp_path / "killed", []
    found = calibrate_on_ray(
        program,
        _FOLDERS,
        address=LOCAL,
        read=reader(killer),
        progress=told.append,
        **_SETTINGS,
    )
    assert killer.exists()
    assert found.to_json() == alone
    assert sorted(told) == [folder.name for folder in _FOLDERS]


def test_a_bracket_that_does_not_load_stops_it_with_its_name(
    program: torch.fx.GraphModule,
) -> None:
    with pytest.raises(CalibrationError, match="bracket 4 does not load") as caught:
        calibrate_on_ray(program, _FOLDERS, address=LOCAL, read=reader(broken="4"), **_SETTINGS)
    assert "leave its folder out" in caught.value.fix
