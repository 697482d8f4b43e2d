"""One small protocol for everything that can run an artifact, and the door that opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pockethdr.errors import ArtifactError
from pockethdr.runtime.artifact import deployed_if_listed

Array = NDArray[np.float32]
Frames = Sequence[Array]
Shape = tuple[int, int, int, int]
# Writes the three H×W×C views of a runner's inputs; reads the H×W×C view of its output.
Fill = Callable[[Sequence[Array]], None]
Take = Callable[[Array], None]

# target → (module, factory); each factory takes (artifact, threads, layout).
_OPENERS = {
    "onnx": ("pockethdr.runtime.ort", "open_onnx"),
    "tflite": ("pockethdr.runtime.litert", "open_tflite"),
    "coreml": ("pockethdr.runtime.coreml", "open_mlpackage"),
    "tensorrt": ("pockethdr.runtime.trt", "open_plan"),
}


class Runner(Protocol):
    """A loaded artifact.

    Attributes:
        name: precisely what runs it, e.g. `LiteRT 2.3.0 XNNPACK`.
        shape: N, C, H, W of each of the three input frames, whatever the artifact's own layout.
    """

    name: str
    shape: Shape

    def run(self, frames: Frames) -> Array:
        """Three N×C×H×W float32 frames (short, mid, long) → HDR N×C×H×W float32."""

    def run_in_place(self, fill: Fill, take: Take) -> None:
        """Run once on what `fill` writes, and show the output to `take`, copying nothing that the
        runtime does not make us copy. Neither may keep its views. One thread at a time."""

    def close(self) -> None:
        """Give back what the runtime holds; a closed runner cannot run."""


class HostFrames:
    """`Runner.run_in_place` by way of `run`, with the frames allocated once."""

    shape: Shape
    _frames: list[Array] | None = None

    def run(self, frames: Frames) -> Array:
        """See `Runner.run`."""
        raise NotImplementedError

    def run_in_place(self, fill: Fill, take: Take) -> None:
        """See `Runner.run_in_place`."""
        if self._frames is None:
            self._frames = [np.empty(self.shape, np.float32) for _ in range(3)]
        fill([frame[0].transpose(1, 2, 0) for frame in self._frames])
        take(self.run(self._frames)[0].transpose(1, 2, 0))


def open_runner(artifact: Path, target: str, *, threads: int = 1) -> Runner:
    """Load `artifact` with the runtime of `target`, after checking it against its manifest.

    Args:
        artifact: a .onnx, .tflite or .plan file, or a .mlpackage folder.
        target: onnx, tflite, coreml or tensorrt.
        threads: CPU threads of the runtime; ignored by TensorRT and Core ML.

    Raises:
        ArtifactError: missing, damaged, not what its manifest says, or not of three frames.
        Unavailable: this host lacks the runtime or the device.
    """
    if target not in _OPENERS:
        raise ArtifactError(f"unknown target {target!r}", expected=", ".join(_OPENERS))
    if threads < 1:
        raise ArtifactError(f"threads = {threads}", expected="at least 1")
    found = deployed_if_listed(artifact)
    layout = found.record.layout if found else None
    module, factory = _OPENERS[target]
    opener = cast(
        Callable[[Path, int, str | None], Runner], getattr(import_module(module), factory)
    )
    return opener(artifact, threads, layout)


def check_frames(frames: Frames, shape: Shape) -> None:
    """Refuse frames that the artifact was not made for.

    Raises:
        ArtifactError: not three frames of `shape`.
    """
    shapes = [tuple(frame.shape) for frame in frames]
    if shapes != [shape] * 3:
        raise ArtifactError(
            f"frames of shape {shapes}", expected=f"three of {shape}, the artifact's fixed shape"
        )


def order_inputs(names: Sequence[str], artifact: Path) -> list[int]:
    """Indices of the short, mid and long input among an artifact's input names.

    Names ending in short, mid, long bind by name, others (`args_0`…) in sorted order: the order in
    which a runtime lists its inputs means nothing.

    Raises:
        ArtifactError: the artifact does not take three inputs.
    """
    if len(names) != 3:
        raise ArtifactError(
            f"{artifact}: takes {len(names)} inputs ({', '.join(names)})",
            expected="short, mid, long",
        )
    named = [[i for i, name in enumerate(names) if name.endswith(end)] for end in _FRAME_NAMES]
    if all(len(found) == 1 for found in named):
        return [found[0] for found in named]
    return sorted(range(3), key=lambda index: names[index])


def is_nhwc(shape: Sequence[int], layout: str | None) -> bool:
    """Whether a rank-4 input is channels-last: what the manifest says, else the smaller axis."""
    return layout == "NHWC" if layout else shape[3] < shape[1]


def frame_shape(shapes: Sequence[Sequence[int]], channels_last: bool, artifact: Path) -> Shape:
    """The common N, C, H, W of an artifact's three inputs.

    Raises:
        ArtifactError: they differ, or are not fixed positive rank-4 shapes.
    """
    first = tuple(shapes[0])
    fixed = len(first) == 4 and all(isinstance(side, int) and side > 0 for side in first)
    if not fixed or any(tuple(shape) != first for shape in shapes):
        raise ArtifactError(
            f"{artifact}: input shapes {[tuple(shape) for shape in shapes]}",
            expected="three inputs of one fixed rank-4 shape",
            fix="export the model again with a fixed --size",
        )
    n, a, b, c = first
    return (n, c, a, b) if channels_last else (n, a, b, c)


_FRAME_NAMES = ("short", "mid", "long")
