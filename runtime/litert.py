"""TFLite artifacts on the CPU, by LiteRT."""

from __future__ import annotations

import ctypes
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.export.quiet import quiet
from pockethdr.runtime.runner import (
    Array,
    Fill,
    Frames,
    HostFrames,
    Take,
    check_frames,
    input_shapes,
    is_nhwc,
    order_inputs,
)


def open_tflite(artifact: Path, threads: int, layout: str | None) -> LiteRunner:
    """A .tflite file as a runner, on XNNPACK.

    Raises:
        ArtifactError: not a TFLite network of three inputs and one output.
        Unavailable: LiteRT is not installed.
    """
    return LiteRunner(interpreter_of(artifact, threads, allocate=False), artifact, layout)


class LiteRunner(HostFrames):
    """See `Runner`. Integer inputs and outputs are coded with the scales in the file."""

    def __init__(self, interpreter: Any, artifact: Path, layout: str | None) -> None:
        details = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
        if len(outputs) != 1:
            raise ArtifactError(f"{artifact}: {len(outputs)} outputs", expected="one, the HDR")
        self._inputs = [details[i] for i in order_inputs([d["name"] for d in details], artifact)]
        shapes = [[int(side) for side in d["shape"]] for d in self._inputs]
        self.name = f"LiteRT {version('ai-edge-litert')} XNNPACK"
        self._nhwc = is_nhwc(shapes[0], layout)
        self.shape, self.context = input_shapes(shapes, self._nhwc, artifact)
        self._output = outputs[0]
        self._interpreter = interpreter
        floats = all(d["dtype"] == np.float32 for d in (*self._inputs, self._output))
        self._in_place = floats and self._nhwc and self.shape[0] == 1
        self._views: list[Array] = []
        self._allocated = False

    def run(self, frames: Frames) -> Array:
        """See `Runner.run`."""
        check_frames(frames, self.shape, self.context)
        self._allocate()
        for detail, frame in zip(self._inputs, frames, strict=True):
            value = frame.transpose(0, 2, 3, 1) if self._nhwc else frame
            # The view must not outlive this line: the interpreter refuses to run while one is held.
            np.copyto(self._interpreter.tensor(detail["index"])(), coded(value, detail))
        self._interpreter.invoke()
        out = _decoded(self._interpreter.tensor(self._output["index"])(), self._output)
        return np.array(out.transpose(0, 3, 1, 2) if self._nhwc else out, np.float32, order="C")

    def run_in_place(self, fill: Fill, take: Take) -> None:
        """See `Runner.run_in_place`. The views are the interpreter's own memory."""
        if not self._in_place:
            super().run_in_place(fill, take)
            return
        self._allocate()
        *inputs, output = self._views
        fill(inputs)
        self._interpreter.invoke()
        take(output)

    def close(self) -> None:
        """See `Runner.close`."""
        self._views, self._interpreter = [], None

    def _allocate(self) -> None:
        """Tensors are made when they are first needed: until then, frames are being decoded."""
        if not self._allocated:
            with quiet():
                self._interpreter.allocate_tensors()
            self._views, self._allocated = self._memory() if self._in_place else [], True

    def _memory(self) -> list[Array]:
        """H×W×C views of the inputs and the output, which stay where they were allocated.

        The interpreter refuses to run while its own views are held, so these are made of addresses.
        """
        details = (*self._inputs, self._output)
        own = [self._interpreter.tensor(detail["index"])() for detail in details]
        return [
            np.ctypeslib.as_array(
                (ctypes.c_float * view.size).from_address(view.ctypes.data)
            ).reshape(view.shape[1:])
            for view in own
        ]


def coded_inputs(artifact: Path, inputs: Frames) -> list[np.ndarray]:
    """What an artifact's own tensors hold for N×C×H×W frames (and context): N×H×W×C, and integers
    where it takes them. For programs that are handed the bytes, on phones and emulators."""
    details = interpreter_of(artifact, 1, allocate=False).get_input_details()
    ordered = [details[i] for i in order_inputs([d["name"] for d in details], artifact)]
    return [
        np.ascontiguousarray(coded(value.transpose(0, 2, 3, 1), detail))
        for value, detail in zip(inputs, ordered, strict=True)
    ]


def decoded_output(artifact: Path, data: bytes) -> Array:
    """The values, flat, of what such a program read from an artifact's one output."""
    (detail,) = interpreter_of(artifact, 1, allocate=False).get_output_details()
    return _decoded(np.frombuffer(data, detail["dtype"]), detail)


def interpreter_of(
    artifact: Path, threads: int, *, allocate: bool = True, keep_all: bool = False
) -> Any:
    """LiteRT's interpreter of a .tflite file.

    Args:
        allocate: its tensors, at once.
        keep_all: inner tensors too stay readable after a run, which takes their memory.

    Raises:
        ArtifactError: LiteRT cannot load it.
        Unavailable: LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise Unavailable(
            "LiteRT is not installed", install="pip install 'pockethdr[tflite]'"
        ) from error
    try:
        with quiet():
            interpreter = Interpreter(
                str(artifact), num_threads=threads, experimental_preserve_all_tensors=keep_all
            )
            if allocate:
                interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{artifact}: LiteRT cannot load it ({' '.join(str(error).split())})",
            expected="a complete .tflite file of operators that LiteRT knows",
            fix="export the model again, or copy the file again",
        ) from error
    return interpreter


def coded(value: Array, detail: dict[str, Any]) -> np.ndarray:
    """A float input as the artifact wants it: as is, or round(x / scale) + zero point, clamped."""
    dtype = detail["dtype"]
    if not np.issubdtype(dtype, np.integer):
        return value
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(dtype)
    return np.clip(np.round(value / scale) + zero_point, limits.min, limits.max).astype(dtype)


def _decoded(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    if not np.issubdtype(detail["dtype"], np.integer):
        return value
    scale, zero_point = detail["quantization"]
    return (value.astype(np.float32) - zero_point) * np.float32(scale)
