"""Unsigned codes for the activations of a Q/DQ ONNX file: what ONNX Runtime is fast with.

Its x86 kernels multiply uint8 by int8. Where an activation is int8 it changes most codes to uint8
by itself, but not those that several operations read, and then computes in float whatever reads
the one kind and writes the other (docs/decisions/015-unsigned-codes-in-onnx.md).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from pockethdr.export.qdq_lint import QUANTIZERS

if TYPE_CHECKING:
    import onnx

#: From an int8 code to the uint8 code of the same value.
SHIFT = 128


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` whose activations have uint8 codes of the very same values.

    A ReLU whose codes begin below zero becomes a maximum of codes: a float one would stand between
    its convolution and the quantize, and keep the convolution float.
    """
    import onnx

    model = copy.deepcopy(model)
    _shift_zero_points(model.graph)
    _clamp_codes(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _shift_zero_points(graph: onnx.GraphProto) -> None:
    import onnx
    from onnx import numpy_helper

    constants = {i.name: i for i in graph.initializer}
    shifted: dict[str, str] = {}
    for node in graph.node:
        is_weight = node.op_type == "DequantizeLinear" and node.input[0] in constants
        if node.op_type not in QUANTIZERS or is_weight:
            continue
        signed = node.input[2]
        if signed not in shifted:
            zero = numpy_helper.to_array(constants[signed]).astype(np.int16) + SHIFT
            shifted[signed] = f"{signed}_unsigned"
            graph.initializer.append(
                numpy_helper.from_array(zero.astype(np.uint8), shifted[signed])
            )
        node.input[2] = shifted[signed]
    codes = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for value in graph.value_info:
        if value.name in codes:
            value.type.tensor_type.elem_type = onnx.TensorProto.UINT8


def _clamp_codes(graph: onnx.GraphProto) -> None:
    """x → ReLU → quantize becomes x → quantize → max(code, zero-point), which is equal."""
    import onnx
    from onnx import numpy_helper

    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    moved: dict[str, str] = {}  # outputs of ReLUs to their inputs
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        read = readers[node.output[0]]
        if node.op_type == "Relu" and len(read) == 1 and _begins_below_zero(read[0], constants):
            moved[node.output[0]] = node.input[0]
            continue
        nodes.append(node)
        if node.op_type == "QuantizeLinear" and node.input[0] in moved:
            codes, node.input[0] = node.output[0], moved[node.input[0]]
            node.output[0] = f"{codes}_unclamped"
            nodes.append(
                onnx.helper.make_node(
                    "Clip", [node.output[0], node.input[2]], [codes], name=f"{node.name}_clamp"
                )
            )
    del graph.node[:]
    graph.node.extend(nodes)


def _begins_below_zero(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> bool:
    return node.op_type == "QuantizeLinear" and bool(np.any(constants[node.input[2]]))
