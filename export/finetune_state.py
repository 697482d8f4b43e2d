"""How far a fine-tuning is, kept beside its result: a kill costs minutes of it, not all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pockethdr.errors import PocketError
from pockethdr.files import atomic_path

_EVERY_SECONDS = 180


@dataclass
class Standing:
    """Steps done, the seconds they took, and the running loss in dB (NaN at first)."""

    step: int = 0
    seconds: float = 0.0
    running: float = float("nan")


@dataclass
class Checkpoint:
    """The file of an unfinished run.

    Attributes:
        path: it is there from the first save to `remove`.
        of: what else fixes the result: settings, weights, recipe, data. A run of another `of` is
            not gone on with.
    """

    path: Path
    of: Mapping[str, str]
    _saved: float = field(default_factory=time.monotonic, init=False)

    def read(self, *, resume: bool) -> dict[str, Any] | None:
        """What `restored` takes; None without `resume`.

        Raises:
            PocketError: there is a file and `resume` is off, or none to resume, or of another run.
        """
        is_there = self.path.is_file()
        if not resume:
            if is_there:
                raise PocketError(
                    f"{self.path}: a run that was cut off",
                    fix=f"go on with --resume, or remove {self.path.name} to start again",
                )
            return None
        if not is_there:
            raise PocketError(f"{self.path}: nothing to resume", fix="start without --resume")
        saved: dict[str, Any] = torch.load(self.path, weights_only=True)
        other = [name for name in self.of if saved["of"].get(name, "") != self.of[name]]
        if other:
            raise PocketError(
                f"{self.path}: a run with other {', '.join(other)}",
                expected="the run that was cut off",
                fix=f"give what it was started with, or remove {self.path.name} to start again",
            )
        return saved

    def save_sometimes(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, standing: Standing
    ) -> None:
        """Write the file, whole or not at all, when the last was some minutes ago."""
        if time.monotonic() - self._saved < _EVERY_SECONDS:
            return
        saved = {
            "of": dict(self.of),
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "standing": vars(standing),
        }
        with atomic_path(self.path, overwrite=True) as partial:
            torch.save(saved, partial)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """The result is written: nothing is left to go on with."""
        self.path.unlink(missing_ok=True)


def restored(
    saved: Mapping[str, Any] | None, network: nn.Module, optimiser: torch.optim.Optimizer
) -> Standing:
    """Put both where they were; without `saved` they stay at their start."""
    if saved is None:
        return Standing()
    network.load_state_dict(saved["network"])
    optimiser.load_state_dict(saved["optimiser"])
    return Standing(**saved["standing"])
