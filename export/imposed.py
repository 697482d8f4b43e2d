"""Proof that our ranges are in an artifact: its scales and zero-points, read back from the file.

A converter may re-derive a range, merge two or drop a pair, and says nothing of it. So the
activation parameters of the file are compared with those that the program was written with: none
may be foreign.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pockethdr.errors import PocketError
from pockethdr.export.quiet import quiet

if TYPE_CHECKING:
    from torch import fx

#: (scale, zero-point)
Code = tuple[float, int]
_FLOAT32_ERROR = 1e-6
#: Core ML packages hold scales as float16, and of a sum the quotient of two of them.
_FLOAT16_ERROR = 2.0**-9


class RangesError(PocketError):
    """An artifact holds activation ranges that were not given to its converter."""


@dataclass(frozen=True)
class Imposed:
    """Which codes of an artifact are ours; `foreign` ones are not."""

    ours: int
    foreign: tuple[Code, ...]

    def to_json(self) -> dict[str, Any]:
        return {"ours": self.ours, "foreign": [list(code) for code in self.foreign]}


def imposed(artifact: Path, target: str, program: fx.GraphModule) -> Imposed:
    """Compare the activation codes of an INT8 artifact with those of the program it was made of.

    Raises:
        RangesError: a target whose files cannot be read back.
    """
    if not is_readable(target):
        raise RangesError(f"{target} files hold no ranges", expected=", ".join(_READERS))
    with quiet():
        found = sorted(set(_READERS[target](artifact)))
    wanted = codes_of_program(program)
    if target == "coreml":
        wanted |= {(s / divisor, zero) for s, zero in wanted for divisor, _ in wanted}
    allowed = _FLOAT16_ERROR if target == "coreml" else _FLOAT32_ERROR
    foreign = tuple(code for code in found if not _is_among(code, wanted, allowed))
    return Imposed(len(found) - len(foreign), foreign)


def is_readable(target: str) -> bool:
    """Whether the files of `target` tell their ranges."""
    return target in _READERS


def codes_of_program(program: fx.GraphModule) -> set[Code]:
    """The scale and zero-point of every activation pair."""
    return {
        (float(node.args[1]), int(node.args[2]))
        for node in program.graph.nodes
        if "quantize_per_tensor" in str(node.target)
    }


def _is_among(code: Code, wanted: set[Code], allowed: float) -> bool:
    scale, zero = code
    return any(zero == z and abs(scale - s) <= allowed * s for s, z in wanted)


def _tflite_codes(artifact: Path) -> Iterable[Code]:
    """Of every int8 tensor that an operator writes; weights and biases are nobody's output."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(artifact.read_bytes(), 0).subgraphs[0]
    for operator in graph.operators:
        for index in operator.outputs:
            tensor = graph.tensors[index]
            if tensor.type == schema.TensorType.INT8:
                yield float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])


def _onnx_codes(artifact: Path) -> Iterable[Code]:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(artifact))
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale = constants[node.input[1]]
            zero = constants[node.input[2]] if len(node.input) > 2 else np.int8(0)
            yield float(np.ravel(scale)[0]), int(np.ravel(zero)[0])


def _coreml_codes(artifact: Path) -> Iterable[Code]:
    """Of every quantize; coremltools turns a zero-point of −128 into uint8 without one.

    It also divides the scales around a sum by that of an operand, which changes no value.
    """
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    model = ct.models.MLModel(str(artifact), skip_model_load=True)
    spec = model.get_spec()
    program = load(
        spec,
        specification_version=spec.specificationVersion,
        file_weights_dir=model.weights_dir,
    )
    for operation in program.functions["main"].operations:
        if operation.op_type == "quantize":
            zero = 0 if operation.zero_point is None else int(operation.zero_point.val)
            unsigned = operation.output_dtype.val == "uint8"
            yield float(operation.scale.val), zero - 128 * unsigned


#: How the codes of a file are read, by target; a TensorRT plan does not tell.
_READERS = {"tflite": _tflite_codes, "onnx": _onnx_codes, "coreml": _coreml_codes}
