"""What TensorRT would refuse in a Q/DQ ONNX file, or silently take for something else.

Each finding names its fix. The rules were observed on the parser that TensorRT and TensorRT-RTX
share; three of them never fail there and are the reason for this file: UINT8 codes are read as
signed ones, and a per-channel activation or a wrong weight axis is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Finding:
    """One defect: the rule, the node, what is wrong and how to mend it."""

    rule: str
    node: str
    what: str
    fix: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Pair:
    """A quantize or dequantize node, and what the rules ask about it.

    Attributes:
        scale, zero: its constants; None where they are computed, or left out.
        axis: of a scale for each channel.
        codes: number type of the integers.
        weight_of: the convolution whose weight it makes.
        feeds_bias: it makes the bias of one.
        uneven_sum: the addition that reads this value, which others read too, beside one of another
            scale; empty for none.
    """

    node: onnx.NodeProto
    scale: np.ndarray | None
    zero: np.ndarray | None
    axis: int
    codes: np.dtype | None
    weight_of: onnx.NodeProto | None
    feeds_bias: bool
    uneven_sum: str

    @property
    def name(self) -> str:
        return str(self.node.name or self.node.output[0])


def lint(model: onnx.ModelProto) -> list[Finding]:
    """Findings on every QuantizeLinear and DequantizeLinear of `model`, in graph order."""
    return [f for pair in _pairs(model) for rule in RULES for f in rule(pair)]


def _zero_point(pair: Pair) -> Iterator[Finding]:
    if pair.zero is not None and np.any(pair.zero != 0):
        yield Finding(
            "zero-point",
            pair.name,
            f"zero-point {int(np.ravel(pair.zero)[np.argmax(np.ravel(pair.zero) != 0)])}",
            "quantise with a symmetric scheme: zero-point 0",
        )


def _unsigned(pair: Pair) -> Iterator[Finding]:
    if pair.codes == np.uint8:
        yield Finding(
            "uint8",
            pair.name,
            "codes are UINT8; TensorRT reads them as INT8 and clamps 128…255 to 127",
            "use INT8 codes",
        )


def _bias(pair: Pair) -> Iterator[Finding]:
    if pair.codes == np.int32 or pair.feeds_bias:
        yield Finding(
            "int32 bias",
            pair.name,
            "a quantised bias; TensorRT's parser takes no INT32 dequantize",
            "keep the bias float (QuantizeBias=False)",
        )


def _scale(pair: Pair) -> Iterator[Finding]:
    if pair.scale is None:
        yield Finding("dynamic scale", pair.name, "the scale is computed", "make it an initializer")
    elif not np.all(np.isfinite(pair.scale) & (pair.scale > 0)):
        yield Finding(
            "scale", pair.name, "a scale is zero, negative or not finite", "calibrate again"
        )


def _channels(pair: Pair) -> Iterator[Finding]:
    per_channel = pair.scale is not None and pair.scale.size > 1
    if per_channel and pair.weight_of is None and pair.codes != np.int32:
        yield Finding(
            "per-channel activation",
            pair.name,
            f"{pair.scale.size} scales on an activation",  # type: ignore[union-attr]
            "one scale per activation tensor",
        )
    if per_channel and pair.weight_of is not None:
        right = 1 if pair.weight_of.op_type == "ConvTranspose" else 0
        if pair.axis != right:
            yield Finding(
                "axis",
                pair.name,
                f"weight of {pair.weight_of.op_type} quantised along axis {pair.axis}",
                f"quantise it along axis {right}, the output channels",
            )


def _shared_skip(pair: Pair) -> Iterator[Finding]:
    if pair.uneven_sum:
        yield Finding(
            "shared skip",
            pair.name,
            f"the skip into {pair.uneven_sum} shares its codes with other readers, and the other "
            "operand has another scale; TensorRT then adds in float, behind a kernel of its own",
            "give both operands one scale, or let the skip read the float tensor",
        )


RULES: tuple[Callable[[Pair], Iterator[Finding]], ...] = (
    _zero_point,
    _unsigned,
    _bias,
    _scale,
    _channels,
    _shared_skip,
)


def _pairs(model: onnx.ModelProto) -> Iterator[Pair]:
    from onnx import numpy_helper

    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    constants |= {
        n.output[0]: numpy_helper.to_array(n.attribute[0].t)
        for n in model.graph.node
        if n.op_type == "Constant" and n.attribute and n.attribute[0].name == "value"
    }
    for node in model.graph.node:
        if node.op_type in QUANTIZERS:
            yield _pair(node, model, constants)


def _pair(node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> Pair:
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    stored = constants.get(node.input[0])
    typed = zero if stored is None or node.op_type == "QuantizeLinear" else stored
    uses = _uses(node.output[0], model)
    convolutions = [(reader, at) for reader, at in uses if reader.op_type in CONVOLUTIONS]
    return Pair(
        node=node,
        scale=constants.get(node.input[1]),
        zero=zero,
        axis=next((a.i for a in node.attribute if a.name == "axis"), 1),
        codes=None if typed is None else typed.dtype,
        weight_of=next((reader for reader, at in convolutions if at == 1), None),
        feeds_bias=any(at == 2 for _, at in convolutions),
        uneven_sum=_uneven_sum(node, model, constants),
    )


def _uneven_sum(
    node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, np.ndarray]
) -> str:
    name = node.output[0]
    readers = [reader for reader in model.graph.node if name in reader.input]
    if node.op_type != "DequantizeLinear" or len(readers) < 2:
        return ""
    makers = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    for reader in readers:
        others = [makers[i] for i in reader.input if i != name and i in makers]
        if reader.op_type == "Add" and any(_scales_differ(node, o, constants) for o in others):
            return str(reader.name or reader.output[0])
    return ""


def _scales_differ(a: onnx.NodeProto, b: onnx.NodeProto, constants: dict[str, np.ndarray]) -> bool:
    first, second = constants.get(a.input[1]), constants.get(b.input[1])
    return first is not None and second is not None and not np.array_equal(first, second)


def _uses(name: str, model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Readers of a value with the input's position, looking through quantize, clip, dequantize."""
    for node in model.graph.node:
        for position, read in enumerate(node.input):
            if read == name and node.op_type in (*QUANTIZERS, "Clip") and position == 0:
                yield from _uses(node.output[0], model)
            elif read == name and node.op_type not in QUANTIZERS:
                yield node, position
