"""What an export is asked for, beside the network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pockethdr.calibration.calibration import Calibration
from pockethdr.export.identity import network_sha256
from pockethdr.export.provenance import code_sha256, versions
from pockethdr.export.recipe import Recipe
from pockethdr.export.tuned import Tuned
from pockethdr.files import sha256_of
from pockethdr.models.load import Loaded


@dataclass(frozen=True)
class Settings:
    """The arguments of `export_model` that decide what the artifacts hold."""

    targets: tuple[str, ...]
    precisions: tuple[str, ...]
    brackets: tuple[Path, ...]
    size: tuple[int, int]
    recipe: Recipe
    seed: int
    patches: int
    allow_dynamic: bool = False
    tuned: Tuned | None = None
    ray: str | None = None
    calibration: Calibration | None = None

    def key(self, loaded: Loaded) -> str:
        """The hash of everything that any artifact of `loaded` depends on."""
        parts = {
            "network": network_sha256(loaded, self.size),
            "spec": loaded.spec,
            "domain": loaded.domain,
            "brackets": [sha256_of(folder) for folder in self.brackets],
            "size": self.size,
            "recipe": self.recipe.to_json(),
            "tuned": self.tuning,
            "calibration": [self.seed, self.patches, _sha256_of(self.calibration)],
            "allow_dynamic": self.allow_dynamic,
            "versions": versions(),
            "code": code_sha256(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def tuning(self) -> dict[str, Any] | None:
        """The tuned weights for the manifest."""
        return self.tuned.to_json() if self.tuned else None


def _sha256_of(calibration: Calibration | None) -> str | None:
    return hashlib.sha256(calibration.to_json().encode()).hexdigest() if calibration else None
