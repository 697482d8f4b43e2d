"""dynint8 for ONNX: integer weights, and each convolution measures the range of what it reads.

    x → DynamicQuantizeLinear → ConvInteger → Cast → × scale(x) · scale(w)[c] → + bias[c]

Unlike those of ONNX Runtime's `quantize_dynamic`, weights have a scale for each channel, and the
last convolutions stay float (docs/decisions/013-dynamic-int8.md).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pockethdr.export.last_convolutions import Step, last_convolutions
from pockethdr.export.qdq_lint import CONVOLUTIONS
from pockethdr.export.weight_rounding import weight_scales

if TYPE_CHECKING:
    import onnx

Constants = dict[str, NDArray[np.generic]]

# Codes of weights: uint8, which ONNX Runtime has fast kernels for, around 128.
_ZERO, _MOST = 128, 127


def with_measured_ranges(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float model whose convolutions multiply uint8, all but the last.

    Transposed ones stay float too, since ONNX has no integer operator for them, and so do those
    whose weights are computed.
    """
    import onnx
    from onnx import numpy_helper

    model = copy.deepcopy(model)
    graph = model.graph
    constants: Constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    last = last_convolutions(
        [Step(node.op_type in CONVOLUTIONS, node.input, node.output) for node in graph.node]
    )
    nodes: list[onnx.NodeProto] = []
    added: Constants = {}
    coded: set[str] = set()
    for position, node in enumerate(graph.node):
        is_constant = all(name in constants for name in node.input[1:])
        if node.op_type != "Conv" or position in last or not is_constant:
            nodes.append(node)
            continue
        source, weight = node.input[:2]
        if source not in coded:
            coded.add(source)
            nodes.append(_measuring(source))
        nodes += _multiplying(node)
        added |= _coded(weight, constants[weight])
        added |= {_column(bias): constants[bias][:, None, None] for bias in node.input[2:]}
    del graph.node[:]
    graph.node.extend(nodes)
    _replace_constants(graph, added)
    onnx.checker.check_model(model, full_check=True)
    return model


def _measuring(source: str) -> onnx.NodeProto:
    from onnx import helper

    names = [f"{source}_codes", f"{source}_scale", f"{source}_zero"]
    return helper.make_node("DynamicQuantizeLinear", [source], names, name=f"{source}_measured")


def _multiplying(conv: onnx.NodeProto) -> list[onnx.NodeProto]:
    """What stands for a float convolution whose input has been measured."""
    from onnx import TensorProto, helper

    source, weight, *biases = conv.input
    result = conv.output[0]
    integer, cast, product = (f"{result}_{part}" for part in ("integer", "cast", "product"))
    scale = f"{result}_scale_of_both"
    codes = [f"{source}_codes", f"{weight}_codes", f"{source}_zero", f"{weight}_zero"]
    multiply = helper.make_node("ConvInteger", codes, [integer], name=conv.name)
    multiply.attribute.extend(conv.attribute)
    steps = [
        multiply,
        helper.make_node("Cast", [integer], [cast], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{source}_scale", f"{weight}_scale"], [scale]),
        helper.make_node("Mul", [cast, scale], [product if biases else result]),
    ]
    for bias in biases:
        steps.append(helper.make_node("Add", [product, _column(bias)], [result]))
    return steps


def _column(bias: str) -> str:
    """The name of a bias that broadcasts over pixels, C×1×1."""
    return f"{bias}_column"


def _coded(name: str, weight: NDArray[np.generic]) -> Constants:
    """Codes, their zero-point, and C×1×1 scales of a C×…×h×w weight."""
    channels, ones = len(weight), (1,) * (weight.ndim - 2)
    scale = weight_scales(torch.tensor(weight), 0, method="mse").numpy()
    codes = np.rint(weight / scale.reshape(channels, 1, *ones)).clip(-_MOST, _MOST)
    return {
        f"{name}_codes": (codes + _ZERO).astype(np.uint8),
        f"{name}_zero": np.array(_ZERO, np.uint8),
        f"{name}_scale": scale.reshape(channels, *ones),
    }


def _replace_constants(graph: onnx.GraphProto, added: Constants) -> None:
    """Add constants, and drop those that nothing reads any more."""
    from onnx import numpy_helper

    read = {name for node in graph.node for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(x, name) for name, x in added.items())
