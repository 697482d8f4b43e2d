"""One small protocol for everything that can run an artifact, and the door that opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pockethdr.errors import ArtifactError
from pockethdr.export.targets import input_names
from pockethdr.runtime.artifact import deployed_if_listed
from pockethdr.runtime.verify import verify

Array = NDArray[np.float32]
Frames = Sequence[Array]
Shape = tuple[int, int, int, int]
# Writes the H×W×C views of a runner's inputs, three or four; reads the view of its output.
Fill = Callable[[Sequence[Array]], None]
Take = Callable[[Array], None]

# target → (module, factory); each factory takes (artifact, threads, layout).
OPENERS = {
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
        context: N, K, h, w of a fourth input, what is known of the whole image; or None.
    """

    name: str
    shape: Shape
    context: Shape | None

    def run(self, frames: Frames) -> Array:
        """Three N×C×H×W float32 frames (short, mid, long), and the context of those that have one
        → HDR N×C×H×W float32."""

    def run_in_place(self, fill: Fill, take: Take) -> None:
        """Run once on what `fill` writes, and show the output to `take`, copying nothing that the
        runtime does not make us copy. Neither may keep its views. One thread at a time."""

    def close(self) -> None:
        """Give back what the runtime holds; a closed runner cannot run."""


class HostFrames:
    """`Runner.run_in_place` by way of `run`, with the frames allocated once."""

    shape: Shape
    context: Shape | None = None
    _frames: list[Array] | None = None

    def run(self, frames: Frames) -> Array:
        """See `Runner.run`."""
        raise NotImplementedError

    def run_in_place(self, fill: Fill, take: Take) -> None:
        """See `Runner.run_in_place`."""
        if self._frames is None:
            shapes = [self.shape] * 3 + ([self.context] if self.context else [])
            self._frames = [np.empty(shape, np.float32) for shape in shapes]
        fill([frame[0].transpose(1, 2, 0) for frame in self._frames])
        take(self.run(self._frames)[0].transpose(1, 2, 0))


def open_runner(
    artifact: Path, target: str, *, threads: int = 1, layout: str | None = None
) -> Runner:
    """Load `artifact` with the runtime of `target`, after checking it against its manifest.

    Args:
        artifact: a .onnx, .tflite or .plan file, or a .mlpackage folder.
        target: onnx, tflite, coreml or tensorrt.
        threads: CPU threads of the runtime; ignored by TensorRT and Core ML.
        layout: of a file whose content the caller has checked; else the manifest's.

    Raises:
        ArtifactError: missing, damaged, not what its manifest says, or not of three frames.
        Unavailable: this host lacks the runtime or the device.
    """
    if target not in OPENERS:
        raise ArtifactError(f"unknown target {target!r}", expected=", ".join(OPENERS))
    if threads < 1:
        raise ArtifactError(f"threads = {threads}", expected="at least 1")
    if layout is None:
        found = deployed_if_listed(artifact)
        layout = found.record.layout if found else None
    verify(artifact, target)
    module, factory = OPENERS[target]
    opener = cast(
        Callable[[Path, int, str | None], Runner], getattr(import_module(module), factory)
    )
    return opener(artifact, threads, layout)


def check_frames(frames: Frames, shape: Shape, context: Shape | None = None) -> None:
    """Refuse frames that the artifact was not made for.

    Raises:
        ArtifactError: not three frames of `shape`, and one of `context` where there is one.
    """
    shapes = [tuple(frame.shape) for frame in frames]
    wanted = [shape] * 3 + ([context] if context else [])
    if shapes != wanted:
        also = f", and a context of {context}" if context else ""
        raise ArtifactError(
            f"frames of shape {shapes}",
            expected=f"three of {shape}, the artifact's fixed shape{also}",
        )


def order_inputs(names: Sequence[str], artifact: Path) -> list[int]:
    """Indices of the short, mid and long input, and of the context, among an artifact's inputs.

    Names ending in short, mid, long, context bind by name, others (`args_0`…) in sorted order: the
    order in which a runtime lists its inputs means nothing.

    Raises:
        ArtifactError: the artifact does not take three inputs, or four.
    """
    if len(names) not in (3, 4):
        raise ArtifactError(
            f"{artifact}: takes {len(names)} inputs ({', '.join(names)})",
            expected="short, mid, long, and perhaps context",
        )
    wanted = input_names(names)
    named = [[i for i, name in enumerate(names) if name.endswith(end)] for end in wanted]
    if all(len(found) == 1 for found in named):
        return [found[0] for found in named]
    return sorted(range(len(names)), key=lambda index: names[index])


def is_nhwc(shape: Sequence[int], layout: str | None) -> bool:
    """Whether an input is channels-last: what the manifest says, else the smaller axis.

    False for a shape that `input_shapes` will refuse."""
    if layout:
        return layout == "NHWC"
    return _is_fixed(shape) and shape[3] < shape[1]


def input_shapes(
    shapes: Sequence[Sequence[int]], channels_last: bool, artifact: Path
) -> tuple[Shape, Shape | None]:
    """The common N, C, H, W of an artifact's three frames, and that of its context or None.

    Raises:
        ArtifactError: they differ, or are not fixed positive rank-4 shapes.
    """
    first = tuple(shapes[0])
    if not all(map(_is_fixed, shapes)) or any(tuple(shape) != first for shape in shapes[:3]):
        raise ArtifactError(
            f"{artifact}: input shapes {[tuple(shape) for shape in shapes]}",
            expected="three inputs of one fixed rank-4 shape",
            fix="export the model again with a fixed --size",
        )
    logical = [
        (n, c, a, b) if channels_last else (n, a, b, c) for n, a, b, c in (shapes[0], shapes[-1])
    ]
    return logical[0], logical[1] if len(shapes) == 4 else None


def _is_fixed(shape: Sequence[object]) -> bool:
    """Whether a shape is of rank 4 and positive; ONNX names the sides that it leaves open."""
    return len(shape) == 4 and all(isinstance(side, int) and side > 0 for side in shape)
