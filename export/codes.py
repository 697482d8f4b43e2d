"""The codes of a program's activations, as each target's file has to hold them.

A code is the scale and zero-point of a tensor of integers: what a quantize or dequantize is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pockethdr.export.aten import only_user

if TYPE_CHECKING:
    from torch import fx

#: (scale, zero-point)
Code = tuple[float, int]


def code(scale: Any, zero: Any, target: str) -> str:
    """Scale and zero-point of a tensor, as files of `target` hold them."""
    return f"{real_type(target)(scale)} {int(zero)}"


def real_type(target: str) -> type[np.floating[Any]]:
    """The type of scales, and of biases that are not integers, in files of `target`."""
    return np.float16 if target == "coreml" else np.float32


def stored_codes(program: fx.GraphModule, target: str) -> frozenset[str]:
    """Every code that files of `target` made of a Q/DQ program hold, and no other."""
    found = _divided_codes(program) if target == "coreml" else codes_of_program(program)
    return frozenset(code(scale, zero, target) for scale, zero in found)


def codes_of_program(program: fx.GraphModule) -> set[Code]:
    """The scale and zero-point of every activation pair."""
    return {_code_of(node) for node in program.graph.nodes if is_quantize(node)}


def quantize_behind(node: fx.Node) -> fx.Node | None:
    """The only reader of `node`, or of the ReLU that is, when it quantises."""
    reader = only_user(node)
    if reader is not None and "aten.relu." in str(reader.target):
        reader = only_user(reader)
    return reader if reader is not None and is_quantize(reader) else None


def is_quantize(node: Any) -> bool:
    return ".quantize_per_tensor" in str(getattr(node, "target", ""))


def is_dequantize(node: Any) -> bool:
    return ".dequantize_per_tensor" in str(getattr(node, "target", ""))


def _divided_codes(program: fx.GraphModule) -> Iterator[Code]:
    """Those of Core ML, whose converter divides the scales around a sum.

    By that of the second operand, which changes no value: x + y = y's scale · (x' + y'), and what
    quantises the sum divides by as much. Other readers of x and y keep the scales they had.
    """
    divisors = _divisors(program)
    for node in program.graph.nodes:
        if is_quantize(node):
            yield _over(_code_of(node), divisors.get(node))
        elif is_dequantize(node):
            yield from (_over(_code_of(node), divisors.get(user)) for user in node.users)


def _divisors(program: fx.GraphModule) -> dict[fx.Node, float]:
    """What the codes read by a sum are divided by, and that written by the quantize behind it."""
    divisors = {}
    for node in program.graph.nodes:
        written = quantize_behind(node) if _is_sum(node) else None
        if written is not None and all(_dequantizes_activation(x) for x in node.args):
            scale, _ = _code_of(node.args[1])
            divisors[node] = divisors[written] = scale
    return divisors


def _over(found: Code, divisor: float | None) -> Code:
    """In float32, as coremltools divides."""
    scale, zero = found
    return (scale if divisor is None else float(np.float32(scale) / np.float32(divisor))), zero


def _is_sum(node: fx.Node) -> bool:
    known = any(kind in str(node.target) for kind in ("aten.add.", "aten.sub."))
    return known and len(node.args) == 2 and not node.kwargs


def _dequantizes_activation(node: Any) -> bool:
    """Whether `node` dequantizes, and no constant, whose scale coremltools leaves as it is."""
    return is_dequantize(node) and node.args[0].args[0].op != "get_attr"


def _code_of(node: fx.Node) -> Code:
    return float(node.args[1]), int(node.args[2])  # type: ignore[arg-type]
