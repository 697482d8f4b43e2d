"""ONNX artifacts on the CPU, by ONNX Runtime."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.errors import ArtifactError, Unavailable, first_line
from pockethdr.runtime.runner import (
    Array,
    Frames,
    HostFrames,
    check_frames,
    input_shapes,
    is_nhwc,
    order_inputs,
)

_DTYPES: dict[str, type[np.floating]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def open_onnx(artifact: Path, threads: int, layout: str | None) -> OnnxRunner:
    """An ONNX file as a runner.

    Raises:
        ArtifactError: not an ONNX network of three float inputs and one output.
        Unavailable: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise Unavailable(
            "ONNX Runtime is not installed", install="pip install 'pockethdr[onnx]'"
        ) from error
    options = session_options(threads)
    try:
        session = onnxruntime.InferenceSession(
            str(artifact), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime's own exceptions share no narrower base
        raise ArtifactError(
            f"{artifact}: ONNX Runtime cannot load it ({first_line(error)})",
            expected="a complete ONNX file",
            fix="export the model again, or copy the file again",
        ) from error
    return OnnxRunner(session, artifact, layout, f"ONNX Runtime {onnxruntime.__version__} CPU")


def session_options(threads: int) -> Any:
    """How every session here computes: exactly, on so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads of one session starve whatever else the host runs, and the timing with it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without VNNI, x86 int8 kernels saturate 16-bit sums by default and lose 10 dB on our networks.
    # With it they do not, and the exact mode would take three times as long.
    options.add_session_config_entry("session.x64quantprecision", "0" if has_vnni() else "1")
    return options


@cache
def has_vnni() -> bool:
    """Whether this x86 processor sums products of bytes in 32 bits; no where none can tell."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


class OnnxRunner(HostFrames):
    """See `Runner`."""

    def __init__(self, session: Any, artifact: Path, layout: str | None, name: str) -> None:
        declared = session.get_inputs()
        inputs = [declared[i] for i in order_inputs([d.name for d in declared], artifact)]
        self.name = name
        self._nhwc = is_nhwc(inputs[0].shape, layout)
        self.shape, self.context = input_shapes([d.shape for d in inputs], self._nhwc, artifact)
        self._bindings = [(d.name, _dtype(d.type, artifact)) for d in inputs]
        self._session = session

    def run(self, frames: Frames) -> Array:
        """See `Runner.run`."""
        check_frames(frames, self.shape, self.context)
        feeds = {
            name: (frame.transpose(0, 2, 3, 1) if self._nhwc else frame).astype(dtype, copy=False)
            for (name, dtype), frame in zip(self._bindings, frames, strict=True)
        }
        out = np.asarray(self._session.run(None, feeds)[0])
        out = out.transpose(0, 3, 1, 2) if self._nhwc else out
        return np.ascontiguousarray(out, dtype=np.float32)

    def close(self) -> None:
        """See `Runner.close`."""
        self._session = None


def _dtype(declared: str, artifact: Path) -> type[np.floating]:
    if declared not in _DTYPES:
        raise ArtifactError(f"{artifact}: input of type {declared}", expected=", ".join(_DTYPES))
    return _DTYPES[declared]
