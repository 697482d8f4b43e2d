"""ONNX artifacts: fp32, fp16 with float32 inputs and output, int8 as Q/DQ pairs, and dynint8.

TensorRT's plans are made from the same files.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from pockethdr.errors import first_line
from pockethdr.export.dynamic_int8 import with_measured_ranges
from pockethdr.export.held_float import NOTHING
from pockethdr.export.program import in_half
from pockethdr.export.qdq_lint import CONVOLUTIONS, QUANTIZERS, lint
from pockethdr.export.quiet import quiet
from pockethdr.export.targets import OUTPUT_NAME, TargetError, input_names
from pockethdr.export.unsigned import unsigned
from pockethdr.files import write_bytes

if TYPE_CHECKING:
    import onnx

#: The first opset whose QuantizeLinear and DequantizeLinear every consumer here reads alike.
OPSET = 21


def build(
    program: fx.GraphModule,
    frames: Sequence[Tensor],
    precision: str,
    path: Path,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write an ONNX file and return `ops`, `float_ops`, `int8_mac_share` and `lint`.

    Arguments and errors are those of `Target.build`. The bytes are the same on every run.
    """
    model = onnx_from_program(program, frames, precision)
    if precision == "int8":
        _hold_softmax_float(model.graph)
        model = unsigned(model)
    elif precision == "dynint8":
        model = with_measured_ranges(model)
    write_bytes(path, model.SerializeToString(deterministic=True), overwrite=overwrite)
    return checks(model, precision)


def onnx_from_program(
    program: fx.GraphModule, frames: Sequence[Tensor], precision: str
) -> onnx.ModelProto:
    """The checked ONNX model of `program`, inputs short, mid, long, output hdr."""
    import onnx

    try:
        with quiet(), torch.no_grad():
            exported = torch.onnx.export(
                Half(program) if precision == "fp16" else program,
                tuple(frames),
                dynamo=True,
                opset_version=OPSET,
                input_names=input_names(frames),
                output_names=[OUTPUT_NAME],
                external_data=False,
                verbose=False,
            )
            assert exported is not None
            model = exported.model_proto
            _forget_origins(model)
            _own_weights(model)
            onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise TargetError(
            f"the ONNX exporter does not take this program: {first_line(error)}",
            expected="static core ATen operators",
            fix="set POCKETHDR_VERBOSE=1 for the exporter's own words",
        ) from error
    return model


class Half(torch.nn.Module):
    """A program computed in float16, with float32 inputs and output."""

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__()
        self.program = in_half(program)

    def forward(self, *frames: Tensor) -> Tensor:
        hdr: Tensor = self.program(*(frame.half() for frame in frames))
        return hdr.float()


def checks(model: onnx.ModelProto, precision: str) -> dict[str, Any]:
    """What the file itself says: operators, what stayed float, share of integer convolutions."""
    ops = Counter(node.op_type for node in model.graph.node)
    found: dict[str, Any] = {"ops": dict(sorted(ops.items()))}
    if precision in ("int8", "dynint8"):
        integer, total = _macs(model)
        found["int8_mac_share"] = integer / total if total else 0.0
    if precision == "int8":
        found["float_ops"] = _float_ops(model)
        found["lint"] = [finding.to_json() for finding in lint(model)]
    return found


def _forget_origins(model: onnx.ModelProto) -> None:
    """Drop the stack traces the exporter keeps: they name the machine and change with it."""
    for holder in (model, model.graph, *model.graph.node, *model.graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
        value.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]


def _own_weights(model: onnx.ModelProto) -> None:
    """Give each convolution codes and zero-points of its own; the exporter merges equal ones.

    ONNX Runtime's exact mode on x86 without VNNI (`session.x64quantprecision`) rewrites them one by
    one, and stops at what two convolutions share.
    """
    constants = {i.name: i for i in model.graph.initializer}
    weights = {
        node.output[0]: node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    readers: Counter[str] = Counter()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in weights and readers[name]:
                again = copy.deepcopy(weights[name])
                again.name = again.output[0] = node.input[place] = f"{name}_{readers[name]}"
                nodes.append(again)
            readers[name] += 1
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    owned: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            codes, _, zero = node.input
            for place, name in ((0, codes), (2, zero)):
                if name in owned:
                    copied = model.graph.initializer.add()
                    copied.CopyFrom(constants[name])
                    copied.name = node.input[place] = f"{node.output[0]}_{name}"
                owned.add(name)


def _hold_softmax_float(graph: onnx.GraphProto) -> None:
    """Add nothing to every softmax, so that ONNX Runtime does not make it integer between pairs.

    Its integer kernel wraps what exceeds the range of the codes around to zero, where quantising
    saturates (https://github.com/microsoft/onnxruntime/issues/29727).
    """
    import onnx

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Softmax":
            (result,) = node.output
            node.output[0] = f"{result}_alone"
            nodes.append(onnx.helper.make_node("Add", [node.output[0], "nothing"], [result]))
    if len(nodes) > len(graph.node):
        graph.initializer.append(
            onnx.helper.make_tensor("nothing", onnx.TensorProto.FLOAT, [], [NOTHING])
        )
        del graph.node[:]
        graph.node.extend(nodes)


def _float_ops(model: onnx.ModelProto) -> dict[str, int]:
    """Operators that no integer kernel can take, by type."""
    sources = {name: node for node in model.graph.node for name in node.output}
    floats = Counter(
        node.op_type
        for node in model.graph.node
        if node.op_type not in (*QUANTIZERS, "Constant") and not _is_integer(node, sources)
    )
    return dict(sorted(floats.items()))


def _is_integer(node: onnx.NodeProto, sources: dict[str, onnx.NodeProto]) -> bool:
    """Whether `node` reads dequantized values or codes, or clamps the result of one that does."""
    if node.op_type in CONVOLUTIONS:
        return all(_is_dequantized(name, sources) for name in node.input[:2])
    makers = [sources[name] for name in node.input if name in sources]
    clamps = node.op_type in ("Relu", "Clip") and len(makers) == 1
    return bool(makers) and (
        all(maker.op_type in QUANTIZERS for maker in makers)
        or (clamps and _is_integer(makers[0], sources))
    )


def _is_dequantized(name: str, sources: dict[str, onnx.NodeProto]) -> bool:
    return name in sources and sources[name].op_type == "DequantizeLinear"


def _macs(model: onnx.ModelProto) -> tuple[int, int]:
    """Multiply-accumulates of integer convolutions, and of all."""
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*shaped.value_info, *shaped.input, *shaped.output)
    }
    shapes |= {i.name: list(i.dims) for i in shaped.initializer}
    sources = {name: node for node in model.graph.node for name in node.output}
    integer = total = 0
    for node in model.graph.node:
        if node.op_type in (*CONVOLUTIONS, "ConvInteger"):
            weight = shapes[node.input[1]]
            pixels = shapes[node.input[0] if node.op_type == "ConvTranspose" else node.output[0]]
            macs = math.prod(pixels) * math.prod(weight) // weight[0]
            total += macs
            integer += macs * (node.op_type == "ConvInteger" or _is_integer(node, sources))
    return integer, total
