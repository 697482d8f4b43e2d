"""What decides what an export holds, beside its settings: versions of tools, and our own code."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

#: Packages whose version changes what an export writes.
TOOLS = (
    "pockethdr", "torch", "numpy", "onnx", "onnxscript", "onnxruntime", "litert-torch",
    "litert-converter", "litert-quantizer", "ai-edge-litert", "torchao", "coremltools",
    "tensorrt", "tensorrt-rtx-cu13-bindings",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of everything that has a hand in an export and is installed."""
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_sha256() -> str:
    """Of the rooms whose code decides what an artifact holds."""
    import pockethdr.brackets
    import pockethdr.calibration
    import pockethdr.export
    import pockethdr.models

    digest = hashlib.sha256()
    rooms = pockethdr.brackets, pockethdr.models, pockethdr.calibration, pockethdr.export
    for room in rooms:
        for folder in map(Path, room.__path__):
            for file in sorted(folder.rglob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()
