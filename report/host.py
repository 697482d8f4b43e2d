"""What this host is, for reports and for `pockethdr doctor`: nothing that names a person."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from pockethdr.runtime.ort import has_vnni

#: What runs artifacts, and with them the reference: figures depend on their versions.
RUNTIMES = (
    "torch",
    "onnxruntime",
    "ai-edge-litert",
    "coremltools",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
)
#: All that decides what can be done here.
PACKAGES = (*RUNTIMES, "numpy", "onnx", "litert-torch", "litert-quantizer", "rawpy")


def host() -> dict[str, str | int]:
    """CPU, cores this process may use, operating system, and the versions of the runtimes."""
    return {
        "cpu": cpu(),
        "cores": cores(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: found for name in RUNTIMES if (found := version_of(name))},
    }


def cpu() -> str:
    """Its name, or at least its kind, and whether it has VNNI, on which the speed of INT8 hangs."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} with VNNI" if has_vnni() else name


def cores() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def version_of(package: str) -> str | None:
    """The version of an installed package; None where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
