"""Training: it learns, survives a kill on the same curve, and never sees the test scenes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pockethdr.brackets.exr import write_exr
from pockethdr.errors import BracketError, PocketError, WeightsError
from pockethdr.models import train as training
from pockethdr.models.patches import Patches
from pockethdr.models.scenes import HELD_OUT, captured_scenes, invented_scenes
from pockethdr.models.train import TrainConfig, train
from pockethdr.models.weights import read_header


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "hdrgt_ours").mkdir()
    for name, scene in invented_scenes(range(2), size=128).items():
        write_exr(folder / "hdrgt_ours" / f"{name}.exr", scene.astype(np.float32))
    write_exr(folder / "hdrgt_ours" / HELD_OUT[0], np.ones((128, 128, 3), np.float32))
    return folder


@pytest.fixture
def config(sources: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        "dsan-m16",
        "raw",
        sources,
        tmp_path / "run",
        minutes=1e6,
        steps=6,
        batch=2,
        patch=32,
        warmup=2,
        invented=0,
        checkpoint_minutes=0.0,
    )


def _weights(run: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    return saved["network"]


@pytest.fixture(autouse=True)
def _captured_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs are too short for procedural scenes, which take a second each."""
    monkeypatch.setattr(training, "invented_scenes", lambda seeds: invented_scenes([0], 128))


def test_a_killed_run_resumes_on_the_same_curve(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config, log=lambda line: None)
    killed = replace(config, run=tmp_path / "killed")
    step = training._step

    def dying(c: TrainConfig, state: training._State, patches: Patches) -> tuple[float, float]:
        if state.step == 3:
            raise KeyboardInterrupt
        return step(c, state, patches)

    monkeypatch.setattr(training, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(killed, log=lambda line: None)
    monkeypatch.setattr(training, "_step", step)
    train(killed, resume=True, log=lambda line: None)
    for name, value in _weights(config.run).items():
        torch.testing.assert_close(value, _weights(killed.run)[name], rtol=1e-4, atol=1e-6)
    other = replace(config, run=tmp_path / "other", seed=1)
    train(other, log=lambda line: None)
    changed = [
        not torch.allclose(value, _weights(other.run)[name], atol=1e-4)
        for name, value in _weights(config.run).items()
    ]
    assert any(changed)


def test_the_header_says_what_made_the_weights(config: TrainConfig) -> None:
    path = train(config, log=lambda line: None)
    header = read_header(path)
    assert header["architecture"] == "dsan-m16"
    assert header["config"]["phi_mode"] == "pixel"
    assert header["training"]["steps_done"] == 6
    assert header["training"]["seed"] == 0
    assert HELD_OUT[0] not in header["training"]["scenes"]
    assert np.isfinite(header["metrics"]["psnr_mu_fixed_patches"])
    assert str(config.sources) not in str(header)


def test_it_learns(config: TrainConfig) -> None:
    lines: list[str] = []
    longer = replace(config, steps=100, batch=4, checkpoint_minutes=60.0, ema=0.9, warmup=20)
    train(replace(longer, run=config.run / "short", steps=1), log=lines.append)
    train(replace(longer, run=config.run / "long"), log=lines.append)
    first, last = (float(line.split()[-2]) for line in lines if line.startswith("done"))
    assert last > first + 2


def test_an_old_run_is_not_overwritten(config: TrainConfig) -> None:
    train(replace(config, steps=1), log=lambda line: None)
    with pytest.raises(PocketError, match="holds a run already"):
        train(config, log=lambda line: None)
    with pytest.raises(WeightsError, match="a run of dsan-m16 raw"):
        train(replace(config, domain="rgb"), resume=True, log=lambda line: None)
    with pytest.raises(PocketError, match="nothing to resume"):
        train(replace(config, run=config.run / "new"), resume=True, log=lambda line: None)


@pytest.mark.parametrize(("domain", "channels"), [("raw", (8, 4, 16)), ("rgb", (6, 3, 32))])
def test_batches_are_the_same_whenever_asked_for(
    domain: str, channels: tuple[int, int, int], sources: Path
) -> None:
    scenes, invented = captured_scenes(sources), invented_scenes([3], size=128)
    first, other = (Patches(domain, scenes, invented, 32, 3, 7) for _ in range(2))
    for step in (0, 1, 50):
        first.get(step)
    for a, b in zip(first.get(50), other.get(50), strict=True):
        assert torch.equal(a, b)
    short, _, _, truth = first.get(4)
    planes, out, side = channels
    assert short.shape == (3, planes, side, side)
    assert truth.shape == (3, out, side, side)
    assert 0 <= truth.min() <= truth.max() <= 1


def test_held_out_scenes_are_never_read(sources: Path, tmp_path: Path) -> None:
    assert not set(HELD_OUT) & set(captured_scenes(sources))
    with pytest.raises(BracketError, match="no HDR images"):
        captured_scenes(tmp_path)


def test_invented_scenes_have_range_and_texture() -> None:
    for scene in invented_scenes(range(3), size=256).values():
        values = scene.astype(np.float32)[..., 1]
        assert np.isfinite(values).all()
        assert np.quantile(values, 0.999) > 50 * np.quantile(values, 0.05)
        assert np.abs(np.diff(np.log(values + 1e-3), axis=0)).mean() > 1e-3
