"""TensorRT plans from the ONNX fp16 file or the Q/DQ file, strongly typed, by one code path.

Full TensorRT (10.12 on) builds where it is installed and a GPU answers. Elsewhere TensorRT-RTX
compiles ahead of time on the CPU; such a plan cannot even be loaded without a GPU, so nothing here
claims that it ran.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from pockethdr.export import onnx as onnx_target
from pockethdr.export.quiet import quiet
from pockethdr.export.targets import TargetError
from pockethdr.export.tensorrt_backend import backend
from pockethdr.files import write_bytes

#: What an RTX plan is compiled for: Ampere, Ada and Blackwell desktop and laptop GPUs.
COMPUTE_CAPABILITIES = ("SM86", "SM89", "SM120")
WORKSPACE_BYTES = 1 << 30

_LOGGERS: dict[str, Any] = {}


def build(
    program: fx.GraphModule,
    frames: Sequence[Tensor],
    precision: str,
    path: Path,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a plan and return the backend, the ONNX file's checks and an estimate of kernels.

    Arguments and errors are those of `Target.build`. TensorRT-RTX gives the same bytes on every
    run; full TensorRT times kernels and does not.
    """
    name, trt = backend()
    model = onnx_target.onnx_from_program(program, frames, precision)
    found = onnx_target.checks(model, precision)
    _refuse_findings(found.get("lint", []))
    with quiet():
        plan, layers = _plan(trt, name, model.SerializeToString(deterministic=True))
    write_bytes(path, plan, overwrite=overwrite)
    return {
        **found,
        "backend": f"{name} {trt.__version__}",
        "compute_capabilities": list(COMPUTE_CAPABILITIES) if name == "tensorrt_rtx" else None,
        "kernels": _kernels(layers),
        "executed": False,
        "reason": "built, not run: the build never loads a plan",
    }


def _refuse_findings(findings: list[dict[str, str]]) -> None:
    if findings:
        first = findings[0]
        raise TargetError(
            f"TensorRT would misread this file: {first['node']}: {first['what']}"
            + (f", and {len(findings) - 1} more" if len(findings) > 1 else ""),
            expected="a Q/DQ file without lint findings",
            fix=first["fix"],
        )


def _plan(trt: Any, name: str, onnx_bytes: bytes) -> tuple[bytes, list[str]]:
    """The serialized plan and the lines in which the builder names its kernels."""
    log = _logger(trt)
    builder = trt.Builder(log)
    # Required by TensorRT 10, ignored by 11: there is no other typing any more.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx_bytes):
        raise TargetError(f"TensorRT does not parse this program: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if name == "tensorrt_rtx":
        config.num_compute_capabilities = len(COMPUTE_CAPABILITIES)
        for index, capability in enumerate(COMPUTE_CAPABILITIES):
            config.set_compute_capability(getattr(trt.ComputeCapability, capability), index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TargetError(f"TensorRT cannot build this program: {' '.join(log.errors[-3:])}")
    return bytes(plan), log.layers


def _logger(trt: Any) -> Any:
    """One logger for the life of the process, since TensorRT keeps the first it sees."""
    if trt.__name__ not in _LOGGERS:

        class Logger(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                    self.errors.append(message)
                elif "LayerType:" in message:
                    self.layers[:] = [s for s in message.splitlines() if "LayerType:" in s]

        _LOGGERS[trt.__name__] = Logger()
    log = _LOGGERS[trt.__name__]
    log.errors, log.layers = [], []
    return log


def _kernels(lines: list[str]) -> dict[str, Any]:
    """Fused kernels as the compiler lists them; a GPU's own compilation may change them."""
    kinds = Counter(m.group(1) for line in lines if (m := re.search(r"LayerType: (\w+)", line)))
    first_input = [re.search(r"Inputs: \[.*?Datatype: (\w+)", line) for line in lines]
    return {
        "kind": "compile-time estimate",
        "count": sum(kinds.values()),
        "types": dict(sorted(kinds.items())),
        "reading_int8": sum(m is not None and m.group(1) == "Int8" for m in first_input),
    }
