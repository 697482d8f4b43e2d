"""Training: simulated brackets in, EMA weights out; stops at a time budget, resumes after a kill.

    loss = |µ(H) − µ(H*)|₁ + 0.1 |H − H*|₁        µ(x) = log(1 + 5000 x) / log 5001

AdamW, warm-up, then a cosine over the time budget; gradients clipped to norm 1.
"""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from pockethdr.brackets.bracket import RAW, RGB
from pockethdr.errors import PocketError, WeightsError
from pockethdr.models import zoo
from pockethdr.models.network import Network
from pockethdr.models.patches import Patches
from pockethdr.models.scenes import HELD_OUT, captured_scenes, invented_scenes
from pockethdr.models.weights import save_weights

_MU = 5000.0
_REPORT_EVERY = 100
# Sizes whose steps cost about the same.
_PATCH = {RAW: 128, RGB: 96}


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        minutes: time budget; the learning rate's cosine spans it. Elapsed time survives a resume.
        steps: stop after this many, whatever the time (None: time alone decides).
        patch: side in sensor pixels; None for 128 (raw) or 96 (rgb).
        sources: folder with hdrgt_* folders of HDR images.
        run: folder of checkpoints.
        invented: how many procedural scenes to add.
    """

    name: str
    domain: str
    sources: Path
    run: Path
    minutes: float = 60.0
    steps: int | None = None
    batch: int = 8
    patch: int | None = None
    lr: float = 1e-3
    warmup: int = 300
    ema: float = 0.999
    seed: int = 0
    threads: int = 1
    invented: int = 32
    checkpoint_minutes: float = 3.0


def train(
    config: TrainConfig, *, resume: bool = False, log: Callable[[str], None] | None = None
) -> Path:
    """Train and return the file of EMA weights, `run`/ema.safetensors.

    Args:
        resume: continue from `run`/checkpoint.pt; the same batches follow, and Adam's state.
        log: receives a line every hundred steps; standard error when None.

    Raises:
        PocketError: the run folder holds a run and `resume` is off, or there is nothing to resume.
    """
    say = log or _to_stderr
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    state = _State.resumed(config) if resume else _State.fresh(config)
    patches = Patches(
        config.domain,
        captured_scenes(config.sources),
        invented_scenes(range(config.invented)),
        config.patch or _PATCH[config.domain],
        config.batch,
        config.seed,
    )
    held = patches.fixed(32)
    running, saved_at, started = math.nan, state.elapsed, time.monotonic() - state.elapsed
    while not _done(config, state):
        loss, score = _step(config, state, patches)
        state.elapsed = time.monotonic() - started
        running = score if math.isnan(running) else 0.98 * running + 0.02 * score
        if state.step % _REPORT_EVERY == 0:
            say(_line(config, state, loss, running))
        if state.elapsed - saved_at > 60 * config.checkpoint_minutes:
            saved_at = state.elapsed
            say(f"checkpoint: fixed patches PSNR-µ {_save(config, state, held):.2f} dB")
    say(f"done: fixed patches PSNR-µ {_save(config, state, held):.2f} dB")
    return config.run / "ema.safetensors"


def mu_law(x: Tensor) -> Tensor:
    """µ(x) = log(1 + 5000 x) / log 5001 of a linear image in [0, 1]."""
    return torch.log1p(_MU * x) / math.log1p(_MU)


@dataclass
class _State:
    network: Network
    average: Network
    optimiser: torch.optim.Optimizer
    step: int = 0
    elapsed: float = 0.0

    @classmethod
    def fresh(cls, config: TrainConfig) -> _State:
        if (config.run / "checkpoint.pt").exists():
            raise PocketError(
                f"{config.run}: holds a run already",
                expected="a new folder",
                fix="continue with --resume, or name another folder",
            )
        return cls._new(config)

    @classmethod
    def resumed(cls, config: TrainConfig) -> _State:
        path = config.run / "checkpoint.pt"
        if not path.is_file():
            raise PocketError(f"{path}: nothing to resume", fix="start without --resume")
        saved = torch.load(path, weights_only=True)
        if (saved["name"], saved["domain"]) != (config.name, config.domain):
            raise WeightsError(
                f"{path}: a run of {saved['name']} {saved['domain']}",
                expected=f"{config.name} {config.domain}",
            )
        state = cls._new(config)
        state.network.load_state_dict(saved["network"])
        state.average.load_state_dict(saved["average"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state.step, state.elapsed = saved["step"], saved["elapsed"]
        return state

    @classmethod
    def _new(cls, config: TrainConfig) -> _State:
        torch.manual_seed(config.seed)
        network = zoo.build(config.name, config.domain).train()
        optimiser = torch.optim.AdamW(network.parameters(), config.lr, weight_decay=0.0)
        return cls(network, copy.deepcopy(network).eval(), optimiser)


def _done(config: TrainConfig, state: _State) -> bool:
    return state.elapsed >= 60 * config.minutes or state.step >= (config.steps or math.inf)


def _step(config: TrainConfig, state: _State, patches: Patches) -> tuple[float, float]:
    """One optimiser step: the loss, and the batch's PSNR-µ."""
    for group in state.optimiser.param_groups:
        group["lr"] = _learning_rate(config, state)
    *frames, truth = patches.get(state.step)
    predicted = state.network(*frames)
    difference = mu_law(predicted) - mu_law(truth)
    loss = difference.abs().mean() + 0.1 * (predicted - truth).abs().mean()
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimiser.step()
    state.step += 1
    _average(state, min(config.ema, (1 + state.step) / (10 + state.step)))
    return loss.item(), _psnr(difference.detach())


def _learning_rate(config: TrainConfig, state: _State) -> float:
    done = state.elapsed / (60 * config.minutes)
    if config.steps:
        done = max(done, state.step / config.steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.lr * min(1.0, (state.step + 1) / config.warmup) * (0.005 + 0.995 * cosine)


@torch.no_grad()
def _average(state: _State, decay: float) -> None:
    pairs = zip(state.average.parameters(), state.network.parameters(), strict=True)
    for average, value in pairs:
        average.lerp_(value, 1 - decay)
    # Batch norm's statistics are running means already.
    for kept, buffer in zip(state.average.buffers(), state.network.buffers(), strict=True):
        kept.copy_(buffer)


def _psnr(difference: Tensor) -> float:
    """Mean over the batch, peak 1."""
    return float(-10 * torch.log10(difference.square().mean((1, 2, 3)) + 1e-12).mean())


@torch.no_grad()
def _save(config: TrainConfig, state: _State, held: tuple[Tensor, ...]) -> float:
    """Write both files; return the averaged weights' PSNR-µ on the fixed patches."""
    *frames, truth = held
    score = _psnr(mu_law(state.average(*frames)) - mu_law(truth))
    config.run.mkdir(parents=True, exist_ok=True)
    save_weights(config.run / "ema.safetensors", state.average, _header(config, state, score))
    _write_checkpoint(config, state)
    return score


def _header(config: TrainConfig, state: _State, score: float) -> dict[str, Any]:
    """What the weights file says of itself. No path: it may be published."""
    settings = {k: v for k, v in asdict(config).items() if not isinstance(v, Path)}
    return {
        "architecture": config.name,
        "domain": config.domain,
        "config": asdict(state.network.config),
        "training": {
            **settings,
            "steps_done": state.step,
            "minutes_done": round(state.elapsed / 60, 1),
            "scenes": sorted(captured_scenes(config.sources)),
            "held_out": list(HELD_OUT),
            "loss": "L1 of µ-law + 0.1 L1 of linear",
        },
        "metrics": {"psnr_mu_fixed_patches": round(score, 3)},
    }


def _write_checkpoint(config: TrainConfig, state: _State) -> None:
    path = config.run / "checkpoint.pt"
    temporary = path.with_suffix(".tmp")
    saved = {
        "name": config.name,
        "domain": config.domain,
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "elapsed": state.elapsed,
    }
    with temporary.open("wb") as file:
        torch.save(saved, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    record = {"step": state.step, "minutes": round(state.elapsed / 60, 2)}
    (config.run / "progress.json").write_text(json.dumps(record) + "\n")


def _line(config: TrainConfig, state: _State, loss: float, running: float) -> str:
    left = config.minutes - state.elapsed / 60
    if config.steps:
        left = min(left, (config.steps - state.step) * state.elapsed / state.step / 60)
    return (
        f"step {state.step:6d}  {state.elapsed / 60:5.1f} min, {left:5.1f} left  "
        f"loss {loss:.4f}  PSNR-µ {running:.2f} dB  lr {_learning_rate(config, state):.1e}"
    )


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description="Train a network of the zoo.")
    parser.add_argument("name", choices=zoo.names(), metavar="NAME")
    parser.add_argument("--domain", choices=zoo.DOMAINS, default="raw")
    parser.add_argument("--sources", type=Path, required=True, help="folder with hdrgt_* folders")
    parser.add_argument("--run", type=Path, help="default: runs/NAME-DOMAIN")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    given = vars(parser.parse_args())
    resume = given.pop("resume")
    given["run"] = given["run"] or Path("runs") / f"{given['name']}-{given['domain']}"
    try:
        print(train(TrainConfig(**given), resume=resume))
    except PocketError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _main()
