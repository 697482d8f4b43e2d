"""Several processes train as one: gradients are averaged, and one of them speaks and writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from sources_cache import filled

from pockethdr.models import train as training
from pockethdr.models.loader import Batch, Stages, batches
from pockethdr.models.train import TrainConfig, train

_SCRIPT = """
import sys
from pathlib import Path
from pockethdr.models import train as training
from pockethdr.models.train import TrainConfig, train
training._precision = lambda: "no"  # bfloat16 rounds by the size of the batch
cache, run, limit = sys.argv[1:]
steps, minutes = (int(limit), None) if limit.isdigit() else (None, float(limit))
config = TrainConfig(
    "dsan-m16", "raw", Path(cache), Path(run), steps=steps, minutes=minutes, batch=2, patch=32,
    warmup=2, late=0.5, workers=0,
)
train(config, log=lambda line: print(line, flush=True))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sources") / "cache")


def _in_two_processes(cache: Path, run: Path, limit: str) -> str:
    script = run.with_suffix(".py")
    script.write_text(_SCRIPT, encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launch, str(script), str(cache), str(run), limit]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_two_processes_are_one_with_both_batches(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _in_two_processes(cache, tmp_path / "two", "4")
    assert said.count("fixed patches") == 1

    def joined(first: Stages, begin: int, end: int | None, *, workers: int) -> Iterator[Batch]:
        second = training._stages(config, 1)
        pairs = zip(
            *(batches(stages, begin, end, workers=workers) for stages in (first, second)),
            strict=True,
        )
        for pair in pairs:
            yield tuple(torch.cat(parts) for parts in zip(*pair, strict=True))

    config = TrainConfig(
        "dsan-m16", "raw", cache, tmp_path / "one", steps=4, batch=2, patch=32,
        warmup=2, late=0.5, workers=0,
    )  # fmt: skip
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(training, "_precision", lambda: "no")
    monkeypatch.setattr(training, "batches", joined)
    train(config, log=lambda line: None)
    AcceleratorState._reset_state(True)
    one, two = (
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("one", "two")
    )
    assert (one["step"], two["step"]) == (4, 4)
    for name, value in one["network"].items():
        torch.testing.assert_close(two["network"][name], value, rtol=1e-3, atol=2e-6)


def test_time_ends_all_of_them_at_one_step(cache: Path, tmp_path: Path) -> None:
    said = _in_two_processes(cache, tmp_path / "timed", "0.05")
    assert said.count("fixed patches") == 1
