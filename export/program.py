"""What every pass asks of a program: what a node is and where it comes from, and the constants.

A program is a `torch.fx.GraphModule` of ATen operators; its constants are parameters and buffers,
which `get_attr` nodes read.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import map_aggregate
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

#: Begins the names of the constants that follow from the size of the frames alone.
_OF_SIZE = "size_"
# The least number above zero in float16.
_LEAST_HALF = 2.0**-24
# The largest.
_MOST_HALF = 65504.0


def op_name(node: fx.Node) -> str:
    """`aten.conv2d` for a call of `torch.ops.aten.conv2d.default`."""
    return str(node.target).removesuffix(".default")


def kind_of(node: fx.Node) -> str:
    """`aten.add` for any overload of `torch.ops.aten.add`; an empty string for a non-operation."""
    if node.op != "call_function":
        return ""
    return ".".join(str(node.target).split(".")[:2])


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The static shape of a value, or an empty tuple for a non-tensor."""
    value = node.meta.get("val")
    return tuple(int(n) for n in value.shape) if isinstance(value, Tensor) else ()


def source_of(node: fx.Node) -> str:
    """`file.py:12` of the line in the user's network that made this node, or an empty string."""
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    if not lines:
        return ""
    own = [line for line in lines if "/torch/nn/" not in line.replace("\\", "/")]
    path, number = (own or lines)[-1].split(",")[:2]
    return f"{path.removeprefix('File ').strip(chr(34)).rsplit('/', 1)[-1]}:{number.split()[-1]}"


def module_of(node: fx.Node) -> str:
    """The innermost module that made this node, as in `named_modules`, or an empty string."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next((entry[0] for entry in reversed(list(stack.values()))), "")
    return str(path).removeprefix("L['self'].")


def with_ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """`nodes`, and all that they are computed from."""
    queue = list(nodes)
    found = set(queue)
    while queue:
        fresh = [source for source in queue.pop().all_input_nodes if source not in found]
        found.update(fresh)
        queue += fresh
    return found


def refresh_meta(program: fx.GraphModule, frames: Sequence[Tensor]) -> None:
    """Recompute `node.meta["val"]` (shapes and dtypes) of every node."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # the weights are real
    FakeTensorProp(program, mode).propagate(*frames)


def add_constant(
    program: fx.GraphModule, hint: str, value: Tensor, *, of_size: bool = False
) -> fx.Node:
    """A buffer of `program` holding `value`, as a node at the current insertion point.

    Args:
        of_size: it follows from the size of the frames alone, see `constants_of_size`.
    """
    stem, count = f"{_OF_SIZE if of_size else 'const_'}{hint}", 0
    name = stem
    while hasattr(program, name):
        count += 1
        name = f"{stem}_{count}"
    program.register_buffer(name, value.detach().clone().contiguous())
    node = program.graph.get_attr(name)
    node.meta["val"] = value.detach()
    return node


def in_half(program: fx.GraphModule) -> fx.GraphModule:
    """A copy that computes in float16: its constants, and what it converts to float32."""
    halved = within_half(program).half()
    for node in halved.graph.nodes:
        node.args, node.kwargs = map_aggregate((node.args, node.kwargs), _half_type)
    halved.recompile()
    return halved


def within_half(program: fx.GraphModule) -> fx.GraphModule:
    """A copy whose finite constants and numbers are of float16's range.

    Numbers too small for it become the least that it has: they stand beside what may be zero, in
    the denominator of a merge or a norm. Numbers too large become its largest: −1e9 in front of a
    softmax would be −∞, and 0 · −∞ is no number.
    """
    kept = copy.deepcopy(program)
    with torch.no_grad():
        for value in (*kept.parameters(), *kept.buffers()):
            if value.is_floating_point():
                largest = value.clamp(-_MOST_HALF, _MOST_HALF)
                value.copy_(torch.where(value.isfinite(), largest, value))
            if value.numel() == 1 and value.is_floating_point():
                value.fill_(_half_number(float(value)))
    for node in kept.graph.nodes:
        node.args, node.kwargs = map_aggregate((node.args, node.kwargs), _half_float)
    kept.recompile()
    return kept


def _half_float(argument: Any) -> Any:
    return _half_number(argument) if isinstance(argument, float) else argument


def _half_number(number: float) -> float:
    """`number` within float16's range: what is not zero stays so, ∞ and NaN pass."""
    if 0 < abs(number) < _LEAST_HALF:
        return math.copysign(_LEAST_HALF, number)
    if math.isfinite(number) and abs(number) > _MOST_HALF:
        return math.copysign(_MOST_HALF, number)
    return number


def _half_type(argument: Any) -> Any:
    return torch.float16 if argument is torch.float32 else argument


def constant_of(node: Any, program: fx.GraphModule) -> Tensor | None:
    """The tensor behind a `get_attr` node, or None."""
    if isinstance(node, fx.Node) and node.op == "get_attr":
        value: Any = program
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value if isinstance(value, Tensor) else None
    return None


def constants_of_size(program: fx.GraphModule) -> set[str]:
    """Names of the constants that another size of frames has not, or has other values of."""
    return {name for name, _ in program.named_buffers() if name.startswith(_OF_SIZE)}


def drop_unused_constants(program: fx.GraphModule) -> None:
    """Delete parameters and buffers that no node reads."""
    used = {str(node.target) for node in program.graph.nodes if node.op == "get_attr"}
    for path, owner in program.named_modules():
        for table in (owner._parameters, owner._buffers):
            for name in [n for n in table if f"{path}.{n}".removeprefix(".") not in used]:
                del table[name]
