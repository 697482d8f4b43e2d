"""Quantisation-aware fine-tuning: the program that is exported, trained with its roundings in it.

The objective is what a user sees, decibels, so every scene counts alike, dark or bright:

    loss = D(H, H*) + a · D(H, H_float)       D(x, y) = ln mse(µ(x), µ(y)) + b ln mse(x, y)

with the ground truth H* and the float network's output, each mean over one image.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, fx, nn

from pockethdr.brackets.bracket import RAW, RGB
from pockethdr.brackets.sources import HELD_OUT, TRAIN, digest, scenes
from pockethdr.calibration.observe import Observer
from pockethdr.calibration.ranges import Range, ranges_of
from pockethdr.export.fake_quant import learned_constants, learned_ranges, trainable
from pockethdr.export.finetune_state import Checkpoint, restored
from pockethdr.export.identity import state_sha256
from pockethdr.export.integers import prepared
from pockethdr.export.kernels import int8_mac_share
from pockethdr.export.placement import handed_on_below_zero
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import Recipe
from pockethdr.export.static import static_program
from pockethdr.export.targets import LITERT_INT8
from pockethdr.export.tuned import Tuned, write_tuned
from pockethdr.files import check_place, sha256_of
from pockethdr.models.load import Loaded
from pockethdr.models.patches import SimulatedPatches
from pockethdr.models.progress import line_to_stderr
from pockethdr.models.train import diverged, mu_law, scheduled

_REPORT_EVERY = 100
_CALIBRATION_BATCHES = 16
_PATCH = {RAW: 128, RGB: 64}


@dataclass(frozen=True)
class FinetuneConfig:
    """One run.

    Attributes:
        minutes: time budget; the learning rate's cosine spans it, or `steps` when that is given.
        patch: side in sensor pixels; None for 128 (raw) or 64 (rgb).
        lr: peak of the learning rate. More undoes what a well trained network has learned; a third
            of it is enough where the roundings cost less than half a decibel untuned.
        teacher: weight a of the float network's output as a second target.
        linear: weight b of linear light; at 1 a decibel of either metric counts alike.
        clip: bound on the norm of the gradient, since one dark image can have a steep one.
    """

    minutes: float = 12.0
    steps: int | None = None
    batch: int = 4
    patch: int | None = None
    lr: float = 3e-4
    warmup: int = 50
    teacher: float = 0.3
    linear: float = 1.0
    clip: float = 1.0
    seed: int = 0
    threads: int = 1


def finetune(
    loaded: Loaded,
    *,
    sources: Path,
    recipe: Recipe,
    out: Path,
    config: FinetuneConfig | None = None,
    init: Tuned | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log: Callable[[str], None] | None = None,
) -> Tuned:
    """Tune the rewritten program of `loaded` for `recipe`, and write it to `out`.

    Every three minutes it writes the checkpoint `out`.checkpoint, and removes it at the end.

    Args:
        sources: cache of HDR images, from `pockethdr gather`.
        init: weights and ranges of an earlier run to go on from, tuned from those of `loaded`; the
            same seed would show them the same batches again.
        resume: go on from `out`.checkpoint; where `steps` end a run, to the same result as without
            the break.
        overwrite: replace `out` where it is there.
        log: receives a line every hundred steps; standard error when None.

    Raises:
        WeightsError: `init` is of another network or recipe.
        PocketError: no images, a network that the recipe does not fit, a gradient that is no
            number, a file `out`, or a checkpoint that is there, is not there, or is of another run.
    """
    config, say = config or FinetuneConfig(), log or line_to_stderr
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    patches = _patches(loaded.domain, sources, config)
    data = digest(sources, TRAIN)
    checkpoint = Checkpoint(
        out.with_name(f"{out.name}.checkpoint"),
        {
            "settings": json.dumps({**asdict(config), "threads": None}),
            "weights": state_sha256(loaded),
            "recipe": json.dumps(recipe.to_json()),
            "images": data,
            "init": sha256_of(init.path) if init else "",
        },
    )
    saved = checkpoint.read(resume=resume)
    check_place(out, overwrite)
    if init is not None:
        init.check_fits(loaded, recipe)
    program = _prepared(loaded, recipe, patches, init)
    ranges = init.ranges if init else _starting_ranges(program, patches, recipe)
    placed = quantized(program, ranges, recipe, LITERT_INT8)
    say(f"{int8_mac_share(placed.program):.0%} of the multiplications are integer")
    network = trainable(placed.program, weights=recipe.weights)
    at_once = config.batch if _takes_batches(program, patches) else 1
    run = _Run(network, loaded.module, patches, at_once, config, checkpoint, say)
    steps = run.go(saved)
    _copy_constants(network, program)
    training = {
        **asdict(config),
        "steps_done": steps,
        "held_out": list(HELD_OUT),
        "data_sha256": data,
        **({"init_sha256": sha256_of(init.path)} if init else {}),
    }
    found = {**ranges, **learned_ranges(network)}
    tuned = write_tuned(out, program, found, loaded=loaded, recipe=recipe, training=training)
    checkpoint.remove()
    return tuned


def _patches(domain: str, sources: Path, config: FinetuneConfig) -> SimulatedPatches:
    return SimulatedPatches(
        domain,
        scenes(sources, TRAIN),
        config.patch or _PATCH[domain],
        config.batch,
        config.seed,
    )


def _prepared(
    loaded: Loaded, recipe: Recipe, patches: SimulatedPatches, init: Tuned | None
) -> fx.GraphModule:
    short, *_ = patches.fixed(1)
    height, width = short.shape[2:]
    program = static_program(loaded, size=(height, width)).program
    return prepared(program, recipe, init)


@torch.no_grad()
def _takes_batches(program: fx.GraphModule, patches: SimulatedPatches) -> bool:
    """A graph of more than convolutions may hold the one image that it was traced with, or take
    several for one."""
    frames = patches.get(0)[:3]
    try:
        together = program(*frames)
    except RuntimeError:
        return False
    return torch.allclose(together, _by_parts(program, frames, 1), rtol=1e-4, atol=1e-5)


def _parts(frames: Sequence[Tensor], images: int) -> list[tuple[Tensor, ...]]:
    """A batch in parts of so many images."""
    return list(zip(*(frame.split(images) for frame in frames), strict=True))


def _by_parts(network: nn.Module, frames: Sequence[Tensor], images: int) -> Tensor:
    """What the network makes of a batch, so many images at once."""
    return torch.cat([network(*part) for part in _parts(frames, images)])


def _starting_ranges(
    program: fx.GraphModule, patches: SimulatedPatches, recipe: Recipe
) -> dict[str, Range]:
    observer = Observer(program)
    with torch.no_grad():
        for step in range(_CALIBRATION_BATCHES):
            *frames, _ = patches.get(step)
            for image in _parts(frames, 1):
                observer.run(*image)
    below = handed_on_below_zero(program)
    return ranges_of(observer.counted(), recipe.method, methods=recipe.methods, below=below)


@dataclass
class _Run:
    """The loop, and what it needs.

    Attributes:
        network: trained in place.
        teacher: the float network.
        at_once: images that both take.
    """

    network: fx.GraphModule
    teacher: nn.Module
    patches: SimulatedPatches
    at_once: int
    config: FinetuneConfig
    checkpoint: Checkpoint
    say: Callable[[str], None]

    def go(self, saved: Mapping[str, Any] | None) -> int:
        """Train from where a checkpoint was to the end of the budget; the number of steps."""
        config = self.config
        optimiser = torch.optim.AdamW(self.network.parameters(), config.lr, weight_decay=0.0)
        at = restored(saved, self.network, optimiser)
        if at.step == 0:
            self.say(f"at the start: PSNR-µ {self._lost_before():+.2f} dB against float")
        started = time.monotonic() - at.seconds
        while (done := _share_done(config, at.step, at.seconds)) < 1:
            rate = scheduled(config.lr, at.step, done, warmup=config.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate
            lost = self._step(optimiser, at.step)
            at.step += 1
            at.seconds = time.monotonic() - started
            at.running = lost if math.isnan(at.running) else 0.98 * at.running + 0.02 * lost
            if at.step % _REPORT_EVERY == 0:
                self.say(_line(at.step, done, at.running))
            self.checkpoint.save_sometimes(self.network, optimiser, at)
        return at.step

    @torch.no_grad()
    def _lost_before(self) -> float:
        """What the roundings cost on the batches of the calibration, in dB."""
        lost = []
        for step in range(_CALIBRATION_BATCHES):
            *frames, truth = self.patches.get(step)
            found, floats = (
                _by_parts(each, frames, self.at_once) for each in (self.network, self.teacher)
            )
            lost.append(_lost_db(found, floats, truth))
        return sum(lost) / len(lost)

    def _step(self, optimiser: torch.optim.Optimizer, step: int) -> float:
        """One step; what the roundings cost on its batch before it, in dB."""
        *frames, truth = self.patches.get(step)
        with torch.no_grad():
            floats = _by_parts(self.teacher, frames, self.at_once)
        found = _by_parts(self.network, frames, self.at_once)
        b = self.config.linear
        loss = _distance(found, truth, b) + self.config.teacher * _distance(found, floats, b)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        if not norm.isfinite():
            raise diverged(step, fix="lower --lr")
        optimiser.step()
        return _lost_db(found.detach(), floats, truth)


def _line(step: int, done: float, lost_db: float) -> str:
    return f"step {step:5d}  {done:4.0%}  PSNR-µ {lost_db:+.2f} dB against float"


def _share_done(config: FinetuneConfig, step: int, seconds: float) -> float:
    return step / config.steps if config.steps else seconds / (60 * config.minutes)


def _distance(found: Tensor, wanted: Tensor, b: float) -> Tensor:
    """D of the module's docstring. The floors are 60 and 70 dB: beyond them nothing is gained."""
    in_mu = _mse(mu_law(found), mu_law(wanted)) + 1e-6
    linear = _mse(found, wanted) + 1e-7
    return (in_mu.log() + b * linear.log()).mean()


def _mse(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).square().mean((1, 2, 3))


@torch.no_grad()
def _lost_db(found: Tensor, floats: Tensor, truth: Tensor) -> float:
    """Mean PSNR-µ of `found` minus that of the float network; negative is a loss."""
    ours, theirs = (_mse(mu_law(x), mu_law(truth)) + 1e-9 for x in (found, floats))
    return float(10 * (theirs.log10() - ours.log10()).mean())


def _copy_constants(network: fx.GraphModule, program: fx.GraphModule) -> None:
    """The trained parameters back into the program they were made from."""
    own = dict([*program.named_parameters(), *program.named_buffers()])
    with torch.no_grad():
        for name, tuned in learned_constants(network).items():
            own[name].copy_(tuned)
