"""PocketHDR takes dynamic-kernel HDR networks from PyTorch to phone runtimes.

Every name below is imported on first use, so that `import pockethdr` costs nothing and a machine
that only runs artifacts needs no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pockethdr.errors import (
    ArtifactError,
    BracketError,
    ModelError,
    PocketError,
    RefusedError,
    Unavailable,
    WeightsError,
)

if TYPE_CHECKING:
    from pockethdr.brackets.bracket import Bracket
    from pockethdr.brackets.read import find_brackets, read_bracket
    from pockethdr.calibration.calibration import Calibration, CalibrationError
    from pockethdr.cluster import ClusterError
    from pockethdr.export.manifest import Manifest, read_manifest
    from pockethdr.export.pipeline import export_model
    from pockethdr.export.recipe import Recipe, named_recipe
    from pockethdr.export.targets import TargetError
    from pockethdr.export.tuned import Tuned, read_tuned
    from pockethdr.models.load import load_model
    from pockethdr.report.row import Row
    from pockethdr.report.thresholds import Thresholds
    from pockethdr.report.validate import validate
    from pockethdr.runtime.fuse import Fuser, fuse
    from pockethdr.runtime.image import HDRImage
    from pockethdr.runtime.runner import open_runner
    from pockethdr.runtime.write import save_hdr, save_preview

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "Bracket",
    "BracketError",
    "Calibration",
    "CalibrationError",
    "ClusterError",
    "Fuser",
    "HDRImage",
    "Manifest",
    "ModelError",
    "PocketError",
    "Recipe",
    "RefusedError",
    "Row",
    "TargetError",
    "Thresholds",
    "Tuned",
    "Unavailable",
    "WeightsError",
    "export_model",
    "find_brackets",
    "fuse",
    "load_model",
    "named_recipe",
    "open_runner",
    "read_bracket",
    "read_manifest",
    "read_tuned",
    "save_hdr",
    "save_preview",
    "validate",
]

_HOMES = {
    "Bracket": "pockethdr.brackets.bracket",
    "Calibration": "pockethdr.calibration.calibration",
    "CalibrationError": "pockethdr.calibration.calibration",
    "ClusterError": "pockethdr.cluster",
    "Fuser": "pockethdr.runtime.fuse",
    "HDRImage": "pockethdr.runtime.image",
    "Manifest": "pockethdr.export.manifest",
    "Recipe": "pockethdr.export.recipe",
    "Row": "pockethdr.report.row",
    "TargetError": "pockethdr.export.targets",
    "Thresholds": "pockethdr.report.thresholds",
    "Tuned": "pockethdr.export.tuned",
    "export_model": "pockethdr.export.pipeline",
    "find_brackets": "pockethdr.brackets.read",
    "fuse": "pockethdr.runtime.fuse",
    "load_model": "pockethdr.models.load",
    "named_recipe": "pockethdr.export.recipe",
    "open_runner": "pockethdr.runtime.runner",
    "read_bracket": "pockethdr.brackets.read",
    "read_manifest": "pockethdr.export.manifest",
    "read_tuned": "pockethdr.export.tuned",
    "save_hdr": "pockethdr.runtime.write",
    "save_preview": "pockethdr.runtime.write",
    "validate": "pockethdr.report.validate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
