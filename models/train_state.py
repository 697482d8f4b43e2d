"""What a training run is made of, and how it survives a kill: checkpoints, written atomically."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pockethdr.errors import PocketError, WeightsError
from pockethdr.files import atomic_path, write_bytes
from pockethdr.models import zoo
from pockethdr.models.network import Network
from pockethdr.models.weights import load_weights

_CHECKPOINT = "checkpoint.pt"


@dataclass
class TrainState:
    """The network, its moving average, AdamW's moments, and how far the run is."""

    network: Network
    average: Network
    optimiser: torch.optim.Optimizer
    step: int = 0
    elapsed: float = 0.0

    @classmethod
    def fresh(
        cls,
        name: str,
        domain: str,
        run: Path,
        device: torch.device,
        *,
        seed: int,
        init: Path | None,
    ) -> TrainState:
        """A new run, from seeded random values or from the weights file `init`.

        Raises:
            PocketError: the folder holds a run already.
            WeightsError: `init` is of another network.
        """
        if (run / _CHECKPOINT).exists():
            raise PocketError(
                f"{run}: holds a run already",
                expected="a new folder",
                fix="continue with --resume, or name another folder",
            )
        torch.manual_seed(seed)
        network = zoo.build(name, domain)
        if init is not None:
            load_weights(init, network)
        return cls._of(network, device)

    @classmethod
    def resumed(
        cls,
        name: str,
        domain: str,
        run: Path,
        device: torch.device,
        settings: Mapping[str, Any],
    ) -> TrainState:
        """The run as its last checkpoint left it.

        Raises:
            PocketError: there is none, or it is of another network or of other `settings`.
        """
        path = run / _CHECKPOINT
        if not path.is_file():
            raise PocketError(f"{path}: nothing to resume", fix="start without --resume")
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if (saved["name"], saved["domain"]) != (name, domain):
            raise WeightsError(
                f"{path}: a run of {saved['name']} {saved['domain']}", expected=f"{name} {domain}"
            )
        _check_alike(path, saved.get("settings", settings), settings)
        state = cls._of(zoo.build(name, domain), device)
        state.network.load_state_dict(saved["network"])
        state.average.load_state_dict(saved["average"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state._lay_out_moments()
        state.step, state.elapsed = saved["step"], saved["elapsed"]
        return state

    @classmethod
    def _of(cls, network: Network, device: torch.device) -> TrainState:
        network.to(device).train()
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.0, fused=True)
        return cls(network, copy.deepcopy(network).eval(), optimiser)

    def channels_last(self) -> None:
        """The layout that float32 convolutions are fastest in; no number changes its meaning."""
        for network in (self.network, self.average):
            for value in network.parameters():
                if value.dim() == 4:
                    value.data = value.data.contiguous(memory_format=torch.channels_last)
        self._lay_out_moments()

    def _lay_out_moments(self) -> None:
        """Give the moments their parameters' layout: the fused AdamW reads both in one order."""
        for parameter, moments in self.optimiser.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = torch.empty_like(parameter).copy_(moments[name])

    def write(self, name: str, domain: str, run: Path, settings: Mapping[str, Any]) -> None:
        """The checkpoint, whole or not at all: a kill leaves the old or the new one."""
        saved = {
            "name": name,
            "domain": domain,
            "settings": dict(settings),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        with atomic_path(run / _CHECKPOINT, overwrite=True) as partial:
            torch.save(saved, partial)
        record = {"step": self.step, "minutes": round(self.elapsed / 60, 2)}
        progress = json.dumps(record) + "\n"
        write_bytes(run / "progress.json", progress.encode(), overwrite=True)

    @torch.no_grad()
    def average_in(self, decay: float) -> None:
        """average ← decay · average + (1 − decay) · network; statistics of norms are copied."""
        values: list[Tensor] = list(self.network.parameters())
        averages: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(averages, values, 1 - decay)
        for kept, buffer in zip(self.average.buffers(), self.network.buffers(), strict=True):
            kept.copy_(buffer)


def _check_alike(path: Path, began: Mapping[str, Any], goes_on: Mapping[str, Any]) -> None:
    """A run that goes on otherwise than it began would be neither, and its header a lie."""
    others = {name: value for name, value in began.items() if goes_on.get(name) != value}
    if others:
        raise PocketError(
            f"{path}: a run with " + ", ".join(f"{name} {value}" for name, value in others.items()),
            expected=", ".join(f"{name} {goes_on.get(name)}" for name in others) + ", as now",
            fix="go on with the options that the run began with, or begin another",
        )


def steps_done(run: Path) -> int:
    """Steps of the last checkpoint in this folder; 0 when there is none."""
    try:
        record: Mapping[str, Any] = json.loads((run / "progress.json").read_text())
    except (OSError, ValueError):
        return 0
    return int(record["step"])
