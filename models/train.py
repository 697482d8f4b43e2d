"""Training: simulated brackets in, EMA weights out; resumes after a kill on the same curve.

    loss = |µ(H) − µ(H*)|₁ + 0.1 |H − H*|₁        µ(x) = log(1 + 5000 x) / log 5001

AdamW, warm-up, then a cosine over the steps (or over a time budget); gradients clipped to norm 1;
the last tenth at larger patches. One process on a CPU or a GPU; many under `accelerate launch`.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from pockethdr.brackets.bracket import RAW, RGB
from pockethdr.brackets.sources import HELD_OUT, TRAIN, digest, scenes
from pockethdr.errors import PocketError
from pockethdr.files import sha256_of
from pockethdr.models import zoo
from pockethdr.models.loader import Batch, Stages, batches
from pockethdr.models.mobilehdr_patches import MobileHdrPatches, common_order, training_files
from pockethdr.models.patches import SimulatedPatches
from pockethdr.models.progress import Progress
from pockethdr.models.train_state import TrainState, steps_done
from pockethdr.models.weights import save_weights, trained_steps

SIMULATED, MOBILE_HDR = "simulated", "mobile-hdr"
_MU = 5000.0
# Sizes whose steps cost about the same.
_PATCH = {RAW: 128, RGB: 96}
_FIXED = 32


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        steps: the learning rate's cosine spans them, and the run ends with them.
        minutes: a time budget instead of steps; elapsed time survives a resume.
        patch: side in sensor pixels; None for 128 (raw) or 96 (rgb).
        late: share of the steps, at the end, with half as many patches of 3/2 the side.
        sources: cache of HDR images, from `pockethdr gather`; or Mobile-HDR's folder.
        data: `simulated` brackets, or `mobile-hdr` as it is published.
        channel_order: of Mobile-HDR's channels; see `brackets.mobilehdr.order_of`.
        run: folder of checkpoints.
        init: weights to start from.
        workers: processes that make batches.
    """

    name: str
    domain: str
    sources: Path
    run: Path
    steps: int | None = None
    minutes: float | None = None
    batch: int = 8
    patch: int | None = None
    late: float = 0.1
    lr: float = 1e-3
    warmup: int = 300
    ema: float = 0.999
    seed: int = 0
    threads: int = 1
    workers: int = 1
    data: str = SIMULATED
    channel_order: str | None = None
    init: Path | None = None
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise PocketError("a run ends after its steps or its minutes", expected="one of them")
        if self.data == MOBILE_HDR and self.domain != RAW:
            raise PocketError("Mobile-HDR holds raw brackets", fix="leave --domain out")


def train(
    config: TrainConfig, *, resume: bool = False, log: Callable[[str], None] | None = None
) -> Path:
    """Train and return the file of EMA weights, `run`/ema.safetensors.

    Args:
        resume: continue from `run`/checkpoint.pt; the same batches follow, and Adam's state.
        log: receives a line every hundred steps; None shows progress on the terminal.

    Raises:
        PocketError: the run folder holds a run and `resume` is off, there is nothing to resume, the
            run began with other settings, or the network takes no patches of this side.
    """
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    machine = Accelerator(mixed_precision=_precision())
    facts = _data_facts(config)
    state = _state(config, machine.device, facts, resume=resume)
    if machine.device.type == "cuda" or machine.mixed_precision == "no":
        state.channels_last()  # oneDNN's bfloat16 gradients of AHDRNet are NaN in that layout
    stages = _stages(config, machine.process_index)
    silent = not machine.is_main_process
    with Progress(config.run, config.steps, state.step, log, silent=silent) as progress:
        _Run(config, machine, state, progress, stages, facts).go()
    return config.run / "ema.safetensors"


def mu_law(x: Tensor) -> Tensor:
    """µ(x) = log(1 + 5000 x) / log 5001 of a linear image in [0, 1]."""
    return torch.log1p(_MU * x) / math.log1p(_MU)


class _Run:
    """The loop, and what it needs."""

    def __init__(
        self,
        config: TrainConfig,
        machine: Accelerator,
        state: TrainState,
        progress: Progress,
        stages: Stages,
        facts: Mapping[str, Any],
    ) -> None:
        self.config, self.machine, self.state = config, machine, state
        self.progress, self.stages, self.facts = progress, stages, facts
        self.held = [part.to(machine.device) for part in stages.early.fixed(_FIXED)]
        self.network = machine.prepare(state.network)
        self.optimiser = machine.prepare(state.optimiser)

    def go(self) -> None:
        config, state = self.config, self.state
        saved, started = state.elapsed, time.monotonic() - state.elapsed
        for batch in batches(self.stages, state.step, config.steps, workers=config.workers):
            loss, score = self.step(batch)
            state.elapsed = self._agreed(time.monotonic() - started)
            self.progress.step(state.step, loss, score, self.rate(), state.elapsed)
            if config.minutes is not None and state.elapsed >= 60 * config.minutes:
                break
            if state.elapsed - saved > 60 * config.checkpoint_minutes:
                saved = state.elapsed
                self.save()
        self.save()

    def step(self, batch: Batch) -> tuple[float, float]:
        """One optimiser step: the loss, and the batch's PSNR-µ."""
        state = self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self.rate()
        *frames, truth = (part.to(self.machine.device) for part in batch)
        predicted = self.network(*frames)
        difference = mu_law(predicted) - mu_law(truth)
        loss = difference.abs().mean() + 0.1 * (predicted - truth).abs().mean()
        self.optimiser.zero_grad(set_to_none=True)
        self.machine.backward(loss)
        norm = self.machine.clip_grad_norm_(state.network.parameters(), 1.0)
        if norm is not None and not norm.isfinite():
            raise self._diverged()
        self.optimiser.step()
        state.step += 1
        state.average_in(min(self.config.ema, (1 + state.step) / (10 + state.step)))
        return loss.item(), _psnr(difference.detach())

    def _diverged(self) -> PocketError:
        run, kept = self.config.run, steps_done(self.config.run)
        return diverged(
            self.state.step,
            left=f"{run} keeps the {kept:,} steps of its last checkpoint" if kept else "",
            fix="begin a new run with a lower --lr, and with --init where there is a checkpoint",
        )

    def _agreed(self, elapsed: float) -> float:
        """The main process's time, where time rules: all must stop, and slow down, alike."""
        if self.config.minutes is None or self.machine.num_processes == 1:
            return elapsed
        clock = torch.tensor(elapsed, dtype=torch.float64, device=self.machine.device)
        return float(broadcast(clock))

    def rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self.config, self.state.step, self.state.elapsed)

    @torch.no_grad()
    def save(self) -> None:
        """Write the weights and the checkpoint; report PSNR-µ on the fixed patches."""
        if not self.machine.is_main_process:
            return
        *frames, truth = self.held
        score = _psnr(mu_law(self.state.average(*frames)) - mu_law(truth))
        config, state = self.config, self.state
        header = _header(config, state, self.facts, score)
        save_weights(config.run / "ema.safetensors", state.average, header)
        state.write(config.name, config.domain, config.run, _settings(config, self.facts))
        self.progress.held(state.step, score)


def diverged(step: int, *, fix: str, left: str = "") -> PocketError:
    """That the gradient of the step after `step` cannot be followed; `left` says what is kept."""
    return PocketError(
        f"the gradient of step {step + 1:,} is infinite or no number{left and f'; {left}'}",
        expected="a loss that falls",
        fix=fix,
    )


def learning_rate(config: TrainConfig, step: int, elapsed: float) -> float:
    """Of the step after `step`, `elapsed` seconds into the run."""
    done = elapsed / (60 * config.minutes) if config.minutes else step / (config.steps or 1)
    return scheduled(config.lr, step, done, warmup=config.warmup)


def scheduled(peak: float, step: int, done: float, *, warmup: int) -> float:
    """Warm-up, then a cosine down to 0.5 % of `peak`; `done` is the share of the run behind it."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return peak * min(1.0, (step + 1) / warmup) * (0.005 + 0.995 * cosine)


def _precision() -> str:
    """bfloat16 where the hardware multiplies it; weights, loss and optimiser stay in float32."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    cpu = torch.cpu.get_capabilities()
    return "bf16" if cpu.get("avx512_bf16") or cpu.get("amx_bf16") else "no"


def _state(
    config: TrainConfig, device: torch.device, facts: Mapping[str, Any], *, resume: bool
) -> TrainState:
    if resume:
        settings = _settings(config, facts)
        return TrainState.resumed(config.name, config.domain, config.run, device, settings)
    return TrainState.fresh(
        config.name, config.domain, config.run, device, seed=config.seed, init=config.init
    )


def _stages(config: TrainConfig, process: int) -> Stages:
    """Each process of a run has streams of its own."""
    make = _mobile_hdr(config) if config.data == MOBILE_HDR else _simulated(config)
    side, late_side = _sides(config)
    early = make(side, config.batch, 2 * process)
    late = make(late_side, max(1, config.batch // 2), 2 * process + 1)
    return Stages(early, late, round((1 - config.late) * config.steps) if config.steps else None)


def _sides(config: TrainConfig) -> tuple[int, int]:
    """Of early and late patches, both of a size that the network takes."""
    grid = zoo.variant(config.name).config.multiple
    step = 2 * grid if config.domain == RAW else grid
    side = config.patch or _PATCH[config.domain]
    if side % step:
        raise PocketError(
            f"patches of {side} pixels: {config.name} takes multiples of {step}",
            fix=f"--patch {max(step, side - side % step)}",
        )
    late = 3 * side // 2
    return side, late - late % step


def _simulated(config: TrainConfig) -> Callable[[int, int, int], SimulatedPatches]:
    images = scenes(config.sources, TRAIN)
    return lambda side, batch, stream: SimulatedPatches(
        config.domain, images, side, batch, config.seed, stream
    )


def _mobile_hdr(config: TrainConfig) -> Callable[[int, int, int], MobileHdrPatches]:
    files = training_files(config.sources)
    order = common_order(files, config.channel_order)
    return lambda side, batch, stream: MobileHdrPatches(
        files, side // 2, batch, config.seed, stream, order
    )


def _settings(config: TrainConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes the curve of a run, which goes on with the same alone."""
    names = ("batch", "late", "lr", "warmup", "ema", "seed", "data")
    chosen = {name: getattr(config, name) for name in names}
    return {**chosen, "patch": _sides(config)[0], **facts}


def _data_facts(config: TrainConfig) -> dict[str, Any]:
    if config.data == MOBILE_HDR:
        files = training_files(config.sources)
        listed = "\n".join(f"{path.name} {path.stat().st_size}" for path in files)
        return {
            "data_sha256": hashlib.sha256(listed.encode()).hexdigest(),
            "channel_order": common_order(files, config.channel_order),
        }
    return {"data_sha256": digest(config.sources, TRAIN), "held_out": list(HELD_OUT)}


def _init_facts(weights: Path | None) -> dict[str, Any]:
    if weights is None:
        return {}
    return {"init_sha256": sha256_of(weights), "init_steps_done": trained_steps(weights)}


def _psnr(difference: Tensor) -> float:
    """Mean over the batch, peak 1."""
    return float(-10 * torch.log10(difference.square().mean((1, 2, 3)) + 1e-12).mean())


def _header(
    config: TrainConfig, state: TrainState, facts: Mapping[str, Any], score: float
) -> dict[str, Any]:
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
            **facts,
            **_init_facts(config.init),
            "loss": "L1 of µ-law + 0.1 L1 of linear",
            "mixed_precision": _precision(),
        },
        "metrics": {"psnr_mu_fixed_patches": round(score, 3)},
    }
