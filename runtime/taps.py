"""What an artifact computes on the way: every tensor of it, for one input, from its own runtime.

    tflite  LiteRT keeps all tensors (`experimental_preserve_all_tensors`), XNNPACK included.
    onnx    a temporary copy of the file whose inner tensors are outputs too, in ONNX Runtime.
    coreml  the evaluator of the saved program.

A tensor that is quantised is read behind its rounding, so that what is seen is what the next
operation sees; a value that an integer kernel clamps (convolution and ReLU) is read behind the
clamp, since before it there is no tensor.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.runtime.litert import coded, interpreter_of
from pockethdr.runtime.runner import Array, Frames, order_inputs
from pockethdr.runtime.verify import verify

_CLAMPS = frozenset({"Relu", "Clip", "relu", "relu6", "clip"})
_SUMS = frozenset({"add", "sub"})
_CODES = frozenset({"quantize", "dequantize"})
_CASTS = frozenset({"Cast", "cast"})


@dataclass(frozen=True)
class Tap:
    """A tensor of an artifact.

    Attributes:
        name: of the tensor in the file.
        op: the operation that makes it, in the words of the runtime.
        code: (scale, zero-point) of int8 tensors; None for float ones.
        unit: factor from the values in the file to those of the network.
    """

    name: str
    op: str
    code: tuple[float, int] | None = None
    unit: float = 1.0


class Taps(Protocol):
    """A loaded artifact whose inner tensors can be seen.

    Attributes:
        runtime: what runs it.
        channels_last: tensors are N×H×W×C, where they are images at all.
        taps: in the order of execution.
    """

    runtime: str
    channels_last: bool
    taps: tuple[Tap, ...]

    def run(self, frames: Frames) -> list[Array]:
        """N×C×H×W frames (and context) → the values of `taps`, as float32."""


def open_taps(artifact: Path, target: str) -> Taps:
    """Load an artifact so that its inner tensors can be seen.

    Raises:
        ArtifactError: it is damaged, or the target's files do not let themselves be looked into.
        Unavailable: its runtime is not installed.
    """
    if target not in TAPPED:
        raise ArtifactError(
            f"{artifact}: {target} does not show what is inside",
            expected=f"one of {', '.join(TAPPED)}",
            fix="look at the onnx artifact: a TensorRT plan is made from one",
        )
    verify(artifact, target)
    return TAPPED[target](artifact)


class LiteTaps:
    """See `Taps`."""

    channels_last = True

    def __init__(self, artifact: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it needs memory is why it is not the default
            self._interpreter = interpreter_of(artifact, 1, keep_all=True)
        self.runtime = "LiteRT with XNNPACK, all tensors kept"
        details = self._interpreter.get_input_details()
        self._inputs = [details[i] for i in order_inputs([d["name"] for d in details], artifact)]
        self._indices, self.taps = self._chosen()

    def run(self, frames: Frames) -> list[Array]:
        """See `Taps.run`."""
        for detail, frame in zip(self._inputs, frames, strict=True):
            channels_last = np.ascontiguousarray(frame.transpose(0, 2, 3, 1))
            # The context of a program in INT8 arrives in codes.
            self._interpreter.set_tensor(detail["index"], coded(channels_last, detail))
        self._interpreter.invoke()
        return [
            _decoded(self._interpreter.get_tensor(index), tap.code)
            for index, tap in zip(self._indices, self.taps, strict=True)
        ]

    def _chosen(self) -> tuple[list[int], tuple[Tap, ...]]:
        """The output of each operation, or where only a QUANTIZE reads it, what that writes."""
        every = self._interpreter._get_ops_details()
        operators = [op for op in every if op["op_name"] not in ("DELEGATE", "DEQUANTIZE")]
        readers: dict[int, list[dict[str, Any]]] = {}
        for op in every:
            for index in op["inputs"] if op["op_name"] != "DELEGATE" else ():
                readers.setdefault(int(index), []).append(op)
        indices, taps = [], []
        for op in operators:
            index = int(op["outputs"][0])
            by = readers.get(index, [])
            if by and all(reader["op_name"] == "QUANTIZE" for reader in by):
                index = int(by[0]["outputs"][0])
            if index not in indices:
                indices.append(index)
                taps.append(self._tap(index, op["op_name"]))
        return indices, tuple(taps)

    def _tap(self, index: int, op: str) -> Tap:
        detail = self._interpreter._get_tensor_details(index, 0)
        scale, zero = detail["quantization"]
        is_code = detail["dtype"] == np.int8
        return Tap(detail["name"], op, (float(scale), int(zero)) if is_code else None)


class OnnxTaps:
    """See `Taps`."""

    channels_last = False

    def __init__(self, artifact: Path) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise Unavailable(
                "onnx or ONNX Runtime is not installed", install="pip install 'pockethdr[onnx]'"
            ) from error
        from pockethdr.runtime.ort import session_options

        model = onnx.load(str(artifact))
        if any(node.op_type == "ConvInteger" for node in model.graph.node):
            raise ArtifactError(
                f"{artifact}: its convolutions are spread over four operations each",
                expected="an artifact whose inner tensors are those of the network",
                fix="look at tflite dynint8, or at onnx int8",
            )
        self.taps = tuple(chosen(_onnx_steps(model)))
        known = {value.name for value in model.graph.output}
        model.graph.output.extend(
            onnx.ValueInfoProto(name=tap.name) for tap in self.taps if tap.name not in known
        )
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
        )
        self.runtime = f"ONNX Runtime {onnxruntime.__version__} CPU, inner tensors as outputs"
        declared = self._session.get_inputs()
        inputs = [declared[i] for i in order_inputs([d.name for d in declared], artifact)]
        self._names = [d.name for d in inputs]

    def run(self, frames: Frames) -> list[Array]:
        """See `Taps.run`."""
        feeds = dict(zip(self._names, frames, strict=True))
        found = self._session.run([tap.name for tap in self.taps], feeds)
        return [np.asarray(value, np.float32) for value in found]


class MilTaps:
    """See `Taps`."""

    channels_last = False

    def __init__(self, artifact: Path) -> None:
        from pockethdr.runtime.mil.program import NAME, MilProgram

        self._program = MilProgram(artifact)
        self.runtime = NAME
        names = list(self._program.input_shapes)
        self._names = [names[i] for i in order_inputs(names, artifact)]
        self.taps = tuple(chosen(_mil_steps(self._program.steps)))

    def run(self, frames: Frames) -> list[Array]:
        """See `Taps.run`."""
        wanted = {tap.name for tap in self.taps}
        found: dict[str, Array] = {}

        def see(name: str, value: Any) -> None:
            if name in wanted:
                found[name] = np.asarray(value, np.float32)

        self._program.run(dict(zip(self._names, frames, strict=True)), see=see)
        return [found[tap.name] * np.float32(tap.unit) for tap in self.taps]


@dataclass(frozen=True)
class Step:
    """An operation of a Q/DQ graph: `op` is `quantize` or `dequantize` for those two."""

    op: str
    reads: tuple[str, ...]
    writes: str
    code: tuple[float, int] | None = None


def chosen(steps: Sequence[Step]) -> list[Tap]:
    """The tensors worth seeing: one for each operation, behind its rounding or clamp.

    What is only cast is seen as it was before.
    """
    readers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.reads:
            readers.setdefault(name, []).append(step)
    units, taps = _units(steps), []
    for step in steps:
        by = readers.get(step.writes, [])
        hidden = len(by) == 1 and by[0].op in _CLAMPS
        if hidden or step.op in _CODES | _CASTS:
            continue
        rounded = _behind_rounding(step, by, readers, units)
        taps.append(rounded or Tap(step.writes, step.op, None, units.get(step.writes, 1.0)))
    return taps


def _behind_rounding(
    step: Step, by: Sequence[Step], readers: dict[str, list[Step]], units: dict[str, float]
) -> Tap | None:
    """The dequantized form of a value that only quantizes read."""
    if not by or any(reader.op != "quantize" for reader in by):
        return None
    back = [reader for reader in readers.get(by[0].writes, []) if reader.op == "dequantize"]
    if not back or by[0].code is None:
        return None
    scale, zero = by[0].code
    real = scale * units.get(step.writes, 1.0)
    return Tap(back[0].writes, step.op, (real, zero), units.get(back[0].writes, 1.0))


def _units(steps: Sequence[Step]) -> dict[str, float]:
    """Factors from the values in the file to those of the network, where they are not 1.

    coremltools divides the scales of a sum's operands, and of its result, by one of them: the same
    function, in other units.
    """
    units: dict[str, float] = {}
    scales: dict[str, float] = {}
    for step in steps:
        known = [units[name] for name in step.reads if name in units]
        if step.op == "quantize" and step.code:
            scales[step.writes] = step.code[0] * (known[0] if known else 1.0)
        elif step.op == "dequantize" and step.code and step.reads[0] in scales:
            units[step.writes] = scales[step.reads[0]] / step.code[0]
        elif known and (step.op in _SUMS or step.op in _CLAMPS):
            units[step.writes] = known[0]
    return units


def _onnx_steps(model: Any) -> list[Step]:
    from onnx import numpy_helper

    constants = {i.name: i for i in model.graph.initializer}
    names = {"QuantizeLinear": "quantize", "DequantizeLinear": "dequantize"}
    steps: list[Step] = []
    unclamped: dict[str, str] = {}
    quantized: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Constant" or all(name in constants for name in node.input):
            continue
        if node.op_type == "Clip" and node.input[0] in quantized:  # codes: see `export.unsigned`
            unclamped[node.output[0]] = node.input[0]
            continue
        code = None
        if node.op_type in names:
            scale, zero = (np.ravel(numpy_helper.to_array(constants[n])) for n in node.input[1:3])
            code = float(scale[0]), int(zero[0]) - 128 * (zero.dtype == np.uint8)
        op = names.get(node.op_type, node.op_type)
        if op == "quantize":
            quantized.add(node.output[0])
        reads = tuple(unclamped.get(name, name) for name in node.input)
        steps.append(Step(op, reads, node.output[0], code))
    return steps


def _mil_steps(operations: Sequence[Any]) -> list[Step]:
    """coremltools turns a zero-point of −128 into uint8 without one; said here as int8 again."""
    steps = []
    for op in operations:
        code = None
        if op.op_type in ("quantize", "dequantize"):
            zero = 0 if op.zero_point is None else int(op.zero_point.val)
            code = float(op.scale.val), zero - 128 * _is_unsigned(op)
        steps.append(Step(op.op_type, tuple(_names_of(op.inputs)), op.outputs[0].name, code))
    return steps


def _is_unsigned(op: Any) -> bool:
    from coremltools.converters.mil.mil import types

    code = op.outputs[0] if op.op_type == "quantize" else op.input
    return bool(code.dtype == types.uint8)


def _names_of(inputs: dict[str, Any]) -> list[str]:
    values = [v for value in inputs.values() for v in (value if _is_list(value) else [value])]
    return [value.name for value in values if hasattr(value, "name")]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _decoded(value: np.ndarray, code: tuple[float, int] | None) -> Array:
    if code is None:
        return np.asarray(value, np.float32)
    scale, zero = code
    return (value.astype(np.float32) - zero) * np.float32(scale)


#: By target; a TensorRT plan does not show its tensors.
TAPPED: dict[str, Callable[[Path], Taps]] = {
    "tflite": LiteTaps,
    "onnx": OnnxTaps,
    "coreml": MilTaps,
}
