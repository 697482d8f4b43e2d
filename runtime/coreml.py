"""Core ML packages: by Core ML itself on macOS, by evaluating their program anywhere else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.export.quiet import quiet
from pockethdr.runtime.runner import (
    Array,
    Frames,
    HostFrames,
    Runner,
    check_frames,
    input_shapes,
    order_inputs,
)


def open_mlpackage(artifact: Path, threads: int, layout: str | None) -> Runner:
    """A saved .mlpackage as a runner.

    Raises:
        ArtifactError: not a package that holds an ML program of three inputs.
        Unavailable: coremltools (and off macOS, torch) is not installed.
    """
    if sys.platform == "darwin":
        return CoreMLRunner(artifact)
    from pockethdr.runtime.mil.program import MilRunner

    return MilRunner(artifact, threads)


def load_model(artifact: Path, **options: Any) -> Any:
    """coremltools' `MLModel` of a saved package.

    Raises:
        ArtifactError: the package is damaged.
        Unavailable: coremltools is not installed.
    """
    try:
        with quiet():
            import coremltools
    except ImportError as error:
        raise Unavailable(
            "coremltools is not installed", install="pip install 'pockethdr[coreml]'"
        ) from error
    try:
        with quiet():
            return coremltools.models.MLModel(str(artifact), **options)
    except Exception as error:  # protobuf, OS and native errors share no narrower base
        raise ArtifactError(
            f"{artifact}: not loadable as a Core ML package ({' '.join(str(error).split())})",
            expected="a complete .mlpackage folder",
            fix="export the model again, or copy the folder again",
        ) from error


class CoreMLRunner(HostFrames):
    """See `Runner`. Core ML itself chooses CPU, GPU and Neural Engine."""

    def __init__(self, artifact: Path) -> None:
        self._model: Any = load_model(artifact)
        description = self._model.get_spec().description
        names = [entry.name for entry in description.input]
        order = order_inputs(names, artifact)
        shapes = [[int(s) for s in entry.type.multiArrayType.shape] for entry in description.input]
        self.name = "Core ML"
        self.shape, self.context = input_shapes([shapes[i] for i in order], False, artifact)
        self._inputs = [names[i] for i in order]
        self._output = description.output[0].name

    def run(self, frames: Frames) -> Array:
        """See `Runner.run`."""
        check_frames(frames, self.shape, self.context)
        out = self._model.predict(dict(zip(self._inputs, frames, strict=True)))
        return np.ascontiguousarray(out[self._output], dtype=np.float32)

    def close(self) -> None:
        """See `Runner.close`."""
        self._model = None
