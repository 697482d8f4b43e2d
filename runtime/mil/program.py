"""Executes the program inside a saved .mlpackage on a host without Core ML.

The stored MIL program is loaded as it lies on disk and evaluated operation by operation: its graph,
its stored weights (plain, palettised, quantised), its quantize and dequantize steps, and, for every
fp16 tensor, rounding to fp16 after each operation. It does not show that Core ML compiles the
program, nor where it places it, how it accumulates inside an operation, or how fast it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.runtime.coreml import load_model
from pockethdr.runtime.runner import (
    Array,
    Frames,
    HostFrames,
    check_frames,
    input_shapes,
    order_inputs,
)

NAME = "MIL evaluator (not Core ML)"
See = Callable[[str, Any], None]


class MilRunner(HostFrames):
    """See `Runner`."""

    def __init__(self, artifact: Path, threads: int) -> None:
        self._program = MilProgram(artifact)
        shapes = self._program.input_shapes
        names = list(shapes)
        self._inputs = [names[i] for i in order_inputs(names, artifact)]
        if len(self._program.output_names) != 1:
            raise ArtifactError(
                f"{artifact}: outputs {self._program.output_names}", expected="one, the HDR"
            )
        self.name = NAME
        self.shape, self.context = input_shapes(
            [shapes[name] for name in self._inputs], False, artifact
        )
        self._threads = threads

    def run(self, frames: Frames) -> Array:
        """See `Runner.run`."""
        check_frames(frames, self.shape, self.context)
        feeds = dict(zip(self._inputs, frames, strict=True))
        (out,) = self._program.run(feeds, threads=self._threads).values()
        return np.ascontiguousarray(out, dtype=np.float32)

    def close(self) -> None:
        """See `Runner.close`."""


class MilProgram:
    """The `main` function of a saved package.

    Raises:
        ArtifactError: not an ML program, damaged, or with an operation that is not covered.
        Unavailable: coremltools or torch is not installed.
    """

    def __init__(self, artifact: Path) -> None:
        self._artifact = artifact
        self._main = _load(artifact)
        self._operators = _operators()
        self._constants = {
            op.outputs[0]: _constant(op) for op in self._main.operations if _is_constant(op)
        }
        self.steps = [op for op in self._main.operations if not _is_constant(op)]
        self._refuse_unknown()
        self.input_shapes = {
            name: tuple(int(side) for side in value.shape)
            for name, value in self._main.inputs.items()
        }
        self.output_names = [value.name for value in self._main.outputs]
        self._dying = _last_uses(self.steps, self._main.outputs)

    def op_histogram(self) -> dict[str, int]:
        """How often each operation occurs, constants and constexpr included, sorted by name."""
        return dict(sorted(Counter(op.op_type for op in self._main.operations).items()))

    def run(
        self, feeds: dict[str, Array], *, threads: int = 1, see: See | None = None
    ) -> dict[str, np.ndarray]:
        """Every output for the named inputs, float32.

        Args:
            see: called with the name and value of every inner result.

        Raises:
            ArtifactError: an operation is used in a way that is not covered.
        """
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return self._run(feeds, see)
        finally:
            torch.set_num_threads(before)

    def _run(self, feeds: dict[str, Array], see: See | None) -> dict[str, np.ndarray]:
        import torch

        values = dict(self._constants)
        for name, value in self._main.inputs.items():
            values[value] = _rounded(torch.from_numpy(np.ascontiguousarray(feeds[name])), value)
        for step, op in enumerate(self.steps):
            results = self._evaluate(op, values)
            for value, result in zip(op.outputs, results, strict=True):
                values[value] = _rounded(result, value)
                if see is not None:
                    see(value.name, values[value])
            for value in self._dying[step]:
                values.pop(value, None)
        return {value.name: values[value].numpy() for value in self._main.outputs}

    def _evaluate(self, op: Any, values: dict[Any, Any]) -> list[Any]:
        from pockethdr.runtime.mil.operators import Arguments

        given = {k: _given(v, values) for k, v in op.inputs.items() if v is not None}
        try:
            result = self._operators[op.op_type](Arguments(given))
        except (NotImplementedError, RuntimeError, KeyError, ValueError) as error:
            raise ArtifactError(
                f"{self._artifact}: MIL operation `{op.op_type}` ({op.name}): {error}",
                expected="operations that the MIL evaluator covers",
                fix="judge this artifact on macOS, where Core ML itself runs",
            ) from error
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _refuse_unknown(self) -> None:
        unknown = sorted({op.op_type for op in self.steps} - self._operators.keys())
        if unknown:
            raise ArtifactError(
                f"{self._artifact}: the MIL evaluator does not know {', '.join(unknown)}",
                expected="operations that the MIL evaluator covers",
                fix="judge this artifact on macOS, where Core ML itself runs",
            )


def _load(artifact: Path) -> Any:
    model = load_model(artifact, skip_model_load=True)
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = model.get_spec()
    if spec.WhichOneof("Type") != "mlProgram":
        raise ArtifactError(f"{artifact}: not an ML program", expected="a .mlpackage of ours")
    try:
        program = load(
            spec,
            specification_version=spec.specificationVersion,
            file_weights_dir=model.weights_dir,
        )
    except Exception as error:  # damaged protobufs and weight files raise anything
        raise ArtifactError(
            f"{artifact}: its program cannot be read ({' '.join(str(error).split())})",
            expected="a complete .mlpackage folder",
            fix="export the model again, or copy the folder again",
        ) from error
    return program.functions["main"]


def _operators() -> dict[str, Any]:
    try:
        from pockethdr.runtime.mil.operators import OPERATORS
    except ImportError as error:
        raise Unavailable(
            "the MIL evaluator needs torch", install="pip install 'pockethdr[coreml]'"
        ) from error
    return OPERATORS


def _is_constant(op: Any) -> bool:
    return op.op_type == "const" or op.op_type.startswith("constexpr_")


def _constant(op: Any) -> Any:
    value = op.outputs[0].val if op.op_type == "const" else op.materialized_val_inference()
    return _plain(value)


def _given(value: Any, values: dict[Any, Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_given(item, values) for item in value]
    return values[value] if value in values else _plain(value.val)


def _plain(value: Any) -> Any:
    """Arrays as torch tensors, fp16 widened (exactly) to fp32; scalars and strings as they are."""
    import torch

    if (
        not isinstance(value, (np.ndarray, np.floating))
        or np.asarray(value).dtype.kind not in "fiub"
    ):
        return value
    array = np.asarray(value)
    array = array.astype(np.float32) if array.dtype.kind == "f" else array
    return torch.from_numpy(np.array(array, order="C"))


def _rounded(result: Any, value: Any) -> Any:
    """A float tensor as its declared type holds it."""
    import torch
    from coremltools.converters.mil.mil import types

    if result.dtype == torch.float32 and value.dtype == types.fp16:
        return result.half().float()
    return result


def _last_uses(steps: list[Any], outputs: list[Any]) -> list[list[Any]]:
    """For each step, the values that no later step reads: they are dropped, to bound memory."""
    last: dict[Any, int] = {}
    for index, op in enumerate(steps):
        for value in op.inputs.values():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if item is not None:
                    last[item] = index
        for value in op.outputs:
            last.setdefault(value, index)
    dying: list[list[Any]] = [[] for _ in steps]
    for value, index in last.items():
        if value not in outputs:
            dying[index].append(value)
    return dying
