"""Training: it learns, survives SIGKILL on the same curve, and never sees the test images."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from rich.console import Console
from sources_cache import filled

from pockethdr.brackets.sources import HELD_OUT
from pockethdr.errors import PocketError, WeightsError
from pockethdr.models import train as training
from pockethdr.models.train import TrainConfig, learning_rate, train
from pockethdr.models.train_state import steps_done
from pockethdr.models.weights import read_header, trained_steps

# A run of its own process, to be killed: every step saved, and slow enough to be caught between.
_SCRIPT = """
import sys, time, torch
from pathlib import Path
from pockethdr.models import train as training
torch.use_deterministic_algorithms(True)
step = training._Run.step
def slow(self, batch):
    time.sleep(0.05)
    return step(self, batch)
training._Run.step = slow
config = training.TrainConfig(
    "dsan-m16", "raw", Path(sys.argv[1]), Path(sys.argv[2]), steps=6, batch=2, patch=32, warmup=2,
    late=0.4, workers=0, checkpoint_minutes=0.0,
)
training.train(config, log=lambda line: None)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sources") / "cache")


@pytest.fixture
def config(cache: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        "dsan-m16",
        "raw",
        cache,
        tmp_path / "run",
        steps=6,
        batch=2,
        patch=32,
        warmup=2,
        late=0.4,
        workers=0,
        checkpoint_minutes=0.0,
    )


def quiet(line: str) -> None:
    pass


def saved(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return torch.load(run / "checkpoint.pt", weights_only=True)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
def test_a_run_killed_at_any_step_ends_with_the_same_weights(
    config: TrainConfig, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", _SCRIPT, str(config.sources), str(killed)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    kill_at = int(np.random.default_rng().integers(1, 6))
    while steps_done(killed) < kill_at and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert kill_at <= steps_done(killed) < 6
    train(replace(config, run=killed), resume=True, log=quiet)
    train(config, log=quiet)
    for part in ("network", "average"):
        for name, value in saved(config.run)[part].items():
            assert torch.equal(value, saved(killed)[part][name]), f"{part} {name}, {kill_at}"


def test_another_seed_is_another_run(config: TrainConfig, tmp_path: Path) -> None:
    train(config, log=quiet)
    train(replace(config, run=tmp_path / "other", seed=1), log=quiet)
    other = saved(tmp_path / "other")["network"]
    assert any(not torch.equal(v, other[n]) for n, v in saved(config.run)["network"].items())


def test_the_header_says_what_made_the_weights(config: TrainConfig) -> None:
    header = read_header(train(config, log=quiet))
    assert header["architecture"] == "dsan-m16"
    assert header["config"]["phi_mode"] == "pixel"
    training = header["training"]
    assert (training["steps_done"], training["seed"], training["steps"]) == (6, 0, 6)
    assert training["held_out"] == list(HELD_OUT)
    assert len(training["data_sha256"]) == 64
    assert np.isfinite(header["metrics"]["psnr_mu_fixed_patches"])
    assert str(config.sources) not in str(header)


def test_a_terminal_shows_a_bar(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=120)
    monkeypatch.setattr("pockethdr.models.progress.Console", lambda **_: terminal)
    train(replace(config, steps=2))
    assert "step 2" in shown.getvalue()
    assert re.search(r"loss 0\.\d+ +PSNR-µ \d+\.\d+ dB", shown.getvalue())


@pytest.mark.parametrize(("name", "patch", "fix"), [("dsan-m16", 38, 36), ("dsan-m32", 130, 128)])
def test_patches_that_the_network_does_not_take(
    config: TrainConfig, name: str, patch: int, fix: int
) -> None:
    with pytest.raises(PocketError, match=f"patches of {patch} pixels") as refused:
        train(replace(config, name=name, patch=patch), log=quiet)
    assert refused.value.fix == f"--patch {fix}"


def test_late_patches_are_of_a_size_that_the_network_takes(config: TrainConfig) -> None:
    """Half as large again as 36 is 54, which is no multiple of four."""
    train(replace(config, patch=36, steps=2, late=0.5), log=quiet)


def test_a_run_goes_on_as_it_began(config: TrainConfig) -> None:
    train(replace(config, steps=1, lr=1e-4), log=quiet)
    with pytest.raises(PocketError, match=r"a run with lr 0\.0001, seed 0\n") as refused:
        train(replace(config, seed=5), resume=True, log=quiet)
    assert refused.value.expected == "lr 0.001, seed 5, as now"
    weights = train(replace(config, steps=2, lr=1e-4), resume=True, log=quiet)
    assert trained_steps(weights) == 2


def test_legs_add_up(config: TrainConfig, tmp_path: Path) -> None:
    weights = train(replace(config, steps=1), log=quiet)
    for leg in (2, 3):
        run = tmp_path / f"leg{leg}"
        weights = train(replace(config, steps=leg, run=run, init=weights), log=quiet)
    assert trained_steps(weights) == 1 + 2 + 3


def test_it_learns(config: TrainConfig) -> None:
    lines: list[str] = []
    longer = replace(config, steps=120, batch=4, checkpoint_minutes=60.0, ema=0.9, warmup=20)
    train(replace(longer, run=config.run / "short", steps=1), log=lines.append)
    train(replace(longer, run=config.run / "long"), log=lines.append)
    held = [float(line.split()[-2]) for line in lines if "fixed patches" in line]
    assert held[-1] > held[0] + 2


def test_a_run_that_diverges_says_so_and_keeps_its_checkpoint(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(config, steps=2), log=quiet)
    before = saved(config.run)["network"]
    monkeypatch.setattr(training, "mu_law", lambda x: x * torch.inf)
    with pytest.raises(PocketError, match=r"gradient of step 3 .* keeps the 2 steps"):
        train(config, resume=True, log=quiet)
    assert all(torch.equal(value, before[name]) for name, value in before.items())
    assert all(value.isfinite().all() for value in saved(config.run)["network"].values())


@pytest.fixture
def precise(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the precision of the next run; accelerate keeps one for its process otherwise."""

    def choose(precision: str) -> None:
        AcceleratorState._reset_state(True)
        monkeypatch.setattr(training, "_precision", lambda: precision)

    yield choose
    AcceleratorState._reset_state(True)


@pytest.mark.parametrize(("first", "then"), [("no", "bf16"), ("bf16", "no")])
def test_a_run_goes_on_in_the_other_layout(
    config: TrainConfig, precise: Callable[[str], None], first: str, then: str
) -> None:
    """A machine with bfloat16 takes over from one without: AdamW's moments follow the weights."""
    precise(first)
    train(replace(config, steps=2), log=quiet)
    precise(then)
    state = training._state(config, torch.device("cpu"), training._data_facts(config), resume=True)
    if then == "no":
        state.channels_last()
    for parameter, moments in state.optimiser.state.items():
        assert moments["exp_avg"].stride() == parameter.stride()
    train(replace(config, steps=3), resume=True, log=quiet)
    assert steps_done(config.run) == 3


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("name", ["ahdrnet-mobile", "dsan-m32"])
def test_every_precision_has_finite_gradients(
    config: TrainConfig, precise: Callable[[str], None], name: str, precision: str
) -> None:
    precise(precision)
    header = read_header(train(replace(config, name=name, steps=2), log=quiet))
    assert header["training"]["mixed_precision"] == precision
    assert np.isfinite(header["metrics"]["psnr_mu_fixed_patches"])


def test_it_starts_from_given_weights(config: TrainConfig, tmp_path: Path) -> None:
    first = train(config, log=quiet)
    onward = replace(config, run=tmp_path / "onward", steps=1, lr=0.0, init=first)
    train(onward, log=quiet)
    for name, value in saved(config.run)["average"].items():
        torch.testing.assert_close(saved(onward.run)["network"][name], value, rtol=0, atol=0)


def test_the_rate_warms_up_and_falls_along_a_cosine_of_steps(config: TrainConfig) -> None:
    run = replace(config, steps=1000, warmup=100)
    rates = [learning_rate(run, step, elapsed=0.0) for step in (0, 99, 500, 1000)]
    assert rates == pytest.approx([1e-5, 9.76e-4, 5.025e-4, 5e-6], rel=0.01)
    timed = replace(config, steps=None, minutes=10.0, warmup=100)
    assert learning_rate(timed, 500, elapsed=300.0) == pytest.approx(5.025e-4)


def test_progress_has_a_curve_in_tensorboard(config: TrainConfig) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(replace(config, checkpoint_minutes=60.0), log=quiet)
    events = accumulator.EventAccumulator(str(config.run / "tensorboard")).Reload()
    (score,) = events.Scalars("psnr_mu_fixed_patches")
    assert (score.step, np.isfinite(score.value)) == (6, True)


def test_an_old_run_is_not_overwritten(config: TrainConfig) -> None:
    train(replace(config, steps=1), log=quiet)
    with pytest.raises(PocketError, match="holds a run already"):
        train(config, log=quiet)
    with pytest.raises(WeightsError, match="a run of dsan-m16 raw"):
        train(replace(config, domain="rgb"), resume=True, log=quiet)
    with pytest.raises(PocketError, match="nothing to resume"):
        train(replace(config, run=config.run / "new"), resume=True, log=quiet)
    with pytest.raises(PocketError, match="ends after its steps or its minutes"):
        replace(config, minutes=1.0)
    with pytest.raises(PocketError, match="Mobile-HDR holds raw brackets"):
        replace(config, data="mobile-hdr", domain="rgb")
