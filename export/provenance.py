"""What decides what an export holds, beside its settings: versions of tools, and our own code."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path

#: Packages whose version changes what an export writes.
TOOLS = (
    "pockethdr", "torch", "numpy", "onnx", "onnxscript", "onnxruntime", "litert-torch",
    "litert-converter", "litert-quantizer", "ai-edge-litert", "torchao", "coremltools",
    "tensorrt", "tensorrt-rtx-cu13-bindings",
)  # fmt: skip
BUILDERS = ("brackets", "models", "calibration", "export")
#: An empty name is of the face: the command line, files and errors.
JUDGES = ("", *BUILDERS, "runtime", "report")


def versions() -> dict[str, str]:
    """The versions of everything that has a hand in an export and is installed."""
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_sha256(rooms: Sequence[str] = BUILDERS) -> str:
    """Of all the code in some rooms of pockethdr; by default in those that decide what an artifact
    holds."""
    digest = hashlib.sha256()
    for room in rooms:
        for folder in map(Path, import_module(f"pockethdr.{room}".rstrip(".")).__path__):
            for file in sorted(folder.rglob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()
