"""What INT8 files say of themselves: the codes of their tensors and their integer convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.export.codes import code
from pockethdr.export.kernels import Kernel, stored_kernel
from pockethdr.export.qdq_lint import CONVOLUTIONS, QUANTIZERS
from pockethdr.export.tflite_file import CONV_INPUTS, opened
from pockethdr.export.unsigned import SHIFT


@dataclass(frozen=True)
class Stored:
    """`codes` of all integer tensors but weights and biases, and the `kernels`, in file order."""

    codes: tuple[str, ...]
    kernels: tuple[Kernel, ...]


def stored_in(artifact: Path, target: str) -> Stored:
    """Read an artifact of a target among `READERS`."""
    return READERS[target](artifact)


# ---- LiteRT


def _of_tflite(artifact: Path) -> Stored:
    from ai_edge_litert import schema_py_generated as schema

    file = opened(artifact.read_bytes())
    kernels, weights = [], set()
    for name, op in file.operators:
        if name not in CONV_INPUTS or file.tensors[op.inputs[1]].type != schema.TensorType.INT8:
            continue
        weights.add(int(op.inputs[1]))
        x, bias = (op.inputs[i] if i < len(op.inputs) else -1 for i in CONV_INPUTS[name])
        tensors = [None if i < 0 else file.tensors[i] for i in (x, op.inputs[1], bias)]
        kernels.append(_litert_kernel(tensors, file.buffers))
    codes = tuple(
        _litert_code(tensor)
        for index, tensor in enumerate(file.tensors)
        if tensor.type == schema.TensorType.INT8 and index not in weights
    )
    return Stored(codes, tuple(kernels))


def _litert_kernel(tensors: list[Any], buffers: list[Any]) -> Kernel:
    """Weights are out×h×w×in, of depthwise convolutions 1×h×w×out."""
    x, weight, bias = tensors
    quantised = weight.quantization
    codes = np.frombuffer(bytes(buffers[weight.buffer].data), np.int8).reshape(weight.shape)
    order = (0, 3, 1, 2) if quantised.quantizedDimension == 0 else (3, 0, 1, 2)
    added = steps = None
    if bias is not None:
        steps = bias.quantization.scale if bias.quantization else None
        kind = np.float32 if steps is None else np.int32
        added = np.frombuffer(bytes(buffers[bias.buffer].data), kind)
    return stored_kernel(
        weight.name.decode(), codes.transpose(order), quantised.scale, added, _litert_code(x),
        target="tflite", bias_steps=steps,
    )  # fmt: skip


def _litert_code(tensor: Any) -> str:
    quantised = tensor.quantization
    if quantised is None or quantised.scale is None or len(quantised.scale) == 0:
        return ""
    return code(quantised.scale[0], quantised.zeroPoint[0], "tflite")


# ---- ONNX


def _of_onnx(artifact: Path) -> Stored:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(artifact)).graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}

    def coded(node: Any) -> str:
        zero = np.ravel(constants[node.input[2]])[0] if len(node.input) > 2 else np.int8(0)
        signed = int(zero) - SHIFT * (zero.dtype == np.uint8)
        return code(np.ravel(constants[node.input[1]])[0], signed, "onnx")

    def integer(name: str) -> Any:
        node = makers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    kernels, weights = [], set()
    for node in graph.node:
        if node.op_type in CONVOLUTIONS and integer(node.input[1]) is not None:
            x, weight = integer(node.input[0]), integer(node.input[1])
            bias = constants[node.input[2]] if len(node.input) > 2 else None
            parts = constants[weight.input[0]], constants[weight.input[1]], bias
            reads = "" if x is None else coded(x)
            kernels.append(stored_kernel(weight.input[0], *parts, reads, target="onnx"))
            weights.add(weight.output[0])
    found = [n for n in graph.node if n.op_type in QUANTIZERS and n.output[0] not in weights]
    return Stored(tuple(map(coded, found)), tuple(kernels))


# ---- Core ML

#: A constant of integers, its dequantize included.
_CONSTANT = "constexpr_affine_dequantize"


def _of_coreml(artifact: Path) -> Stored:
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    model = ct.models.MLModel(str(artifact), skip_model_load=True)
    spec = model.get_spec()
    program = load(
        spec,
        specification_version=spec.specificationVersion,
        file_weights_dir=model.weights_dir,
    )
    operations = program.functions["main"].operations
    kernels, weights = [], set()
    for op in operations:
        weight = op.weight.op if op.op_type in ("conv", "conv_transpose") else None
        if weight is not None and weight.op_type == _CONSTANT:
            weights.add(weight)
            parts = weight.quantized_data.val, weight.scale.val
            bias = None if op.bias is None else op.bias.val
            reads = _mil_code(op.x.op) if op.x.op.op_type == "dequantize" else ""
            kernels.append(stored_kernel(op.name, *parts, bias, reads, target="coreml"))
    pairs = [op for op in operations if op.op_type in ("quantize", "dequantize")]
    constants = [op for op in operations if op.op_type == _CONSTANT and op not in weights]
    codes = [
        *map(_mil_code, pairs),
        *(code(c.scale.val, c.zero_point.val, "coreml") for c in constants),
    ]
    return Stored(tuple(codes), tuple(kernels))


def _mil_code(op: Any) -> str:
    """Of a quantize or dequantize; a zero-point of −128 is written as uint8 without one."""
    from coremltools.converters.mil.mil import types

    integer = op.outputs[0] if op.op_type == "quantize" else op.input
    zero = 0 if op.zero_point is None else int(op.zero_point.val)
    unsigned = types.builtin_to_string(integer.dtype) == "uint8"
    return code(op.scale.val, zero - 128 * unsigned, "coreml")


#: By target; a TensorRT plan does not tell.
READERS: dict[str, Callable[[Path], Stored]] = {
    "tflite": _of_tflite,
    "onnx": _of_onnx,
    "coreml": _of_coreml,
}
