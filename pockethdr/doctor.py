"""What this host can build and run, and what would be missing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from pockethdr.errors import Unavailable
from pockethdr.report.host import PACKAGES, RUNTIMES, cores, cpu, version_of

NVIDIA = "an NVIDIA GPU with its driver"


@dataclass(frozen=True)
class Ability:
    """Whether one thing works here, by what; or what is missing, and how to get it."""

    works: bool
    detail: str


@dataclass(frozen=True)
class Line:
    """One target at one precision."""

    target: str
    precision: str
    build: Ability
    run: Ability


@dataclass(frozen=True)
class Diagnosis:
    """Everything `pockethdr doctor` shows."""

    machine: dict[str, Any]
    versions: dict[str, str | None]
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def diagnose() -> Diagnosis:
    """Probe this host. Nothing is built, and a broken driver cannot end the process."""
    from pockethdr.export.targets import TARGETS

    lines = []
    for target in TARGETS.values():
        build, run = _can_build(target), RUNNERS[target.name]()
        lines += [Line(target.name, precision, build, run) for precision in target.precisions]
    return Diagnosis(_machine(), {name: version_of(name) for name in PACKAGES}, tuple(lines))


def cuda_devices() -> int:
    """CUDA devices that answer, asked by a child process: a broken driver may end its caller."""
    code = "from pockethdr.cuda import device_count; print(device_count())"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        return int(done.stdout)
    except (subprocess.SubprocessError, ValueError, OSError):
        return 0


def _can_build(target: Any) -> Ability:
    if not find_spec("torch"):
        return Ability(False, "torch is not installed; pip install 'pockethdr[torch]'")
    try:
        target.require()
    except Unavailable as missing:
        return Ability(False, f"{missing.reason}; {missing.install}")
    present = [next(name for name in names if find_spec(name)) for names in target.needs]
    return Ability(True, ", ".join(present))


def _needs(package: str, extra: str) -> Ability:
    found = version_of(package)
    if found is None:
        return Ability(False, f"{package} is not installed; pip install 'pockethdr[{extra}]'")
    return Ability(True, f"{package} {found}")


def _coreml() -> Ability:
    tools = _needs("coremltools", "coreml")
    if not tools.works or sys.platform == "darwin":
        return tools
    if not find_spec("torch"):
        return Ability(False, "torch is not installed; pip install 'pockethdr[coreml]'")
    return Ability(True, "by evaluating the saved program on the CPU; Core ML itself needs macOS")


def _tensorrt() -> Ability:
    names = [name for name in RUNTIMES if name.startswith("tensorrt")]
    found = [f"{name} {version_of(name)}" for name in names if version_of(name)]
    if not found:
        return Ability(False, "TensorRT is not installed; pip install 'pockethdr[tensorrt]'")
    if not cuda_devices():
        return Ability(False, f"no CUDA device answers; needs {NVIDIA}")
    return Ability(True, ", ".join(found))


#: Whether the artifacts of a target run here.
RUNNERS: dict[str, Callable[[], Ability]] = {
    "onnx": lambda: _needs("onnxruntime", "onnx"),
    "tflite": lambda: _needs("ai-edge-litert", "tflite"),
    "coreml": _coreml,
    "tensorrt": _tensorrt,
}


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "python": platform.python_version(),
        "torch_threads": _torch_threads(),
        "cuda_devices": cuda_devices(),
    }


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _torch_threads() -> int | None:
    if not find_spec("torch"):
        return None
    import torch

    return torch.get_num_threads()
