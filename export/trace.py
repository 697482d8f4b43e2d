"""From an `nn.Module` to a program: a flat graph of ATen operators with constant weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch.fx.graph import CodeGen
from torch.fx.node import map_aggregate

from pockethdr.errors import ModelError, first_line, own_line
from pockethdr.export.aten import Conv, emit, emit_with, is_conv, shape
from pockethdr.export.program import drop_unused_constants, kind_of
from pockethdr.export.quiet import VERBOSE, quiet
from pockethdr.export.targets import INPUT_NAMES

_UNKNOWN_TO_CONVERTERS = [torch.ops.aten.channel_shuffle.default, torch.ops.aten.celu.default]
# Their whole numbers are values; those of other operators are sizes, places and exponents.
_TAKES_VALUES = frozenset(
    f"aten.{name}"
    for name in (
        *("add", "sub", "rsub", "mul", "div", "masked_fill", "where"),
        *("clamp", "clamp_min", "clamp_max", "clip", "hardtanh", "threshold"),
        *("gt", "ge", "lt", "le", "eq", "ne"),
    )
)
# Tensors of several types among their operands become floats where one is.
_PROMOTES = frozenset(f"aten.{name}" for name in ("add", "sub", "rsub", "mul", "div", "cat"))
_CONVERT = torch.ops.aten._to_copy.default


def traced(module: nn.Module, frames: Sequence[Tensor]) -> fx.GraphModule:
    """Export `module` for exactly the shapes of `frames`.

    Composite operators that carry meaning (`conv2d`, `linear`, `einsum`, `pixel_unshuffle`) stay
    whole; in-place operations are made functional, every view a `reshape`; parameters that no
    output depends on go.

    Args:
        module: a network whose `forward` takes three N×C×H×W tensors and returns one tensor.
        frames: example inputs; only their shapes and dtypes matter.

    Returns:
        A program with placeholders `short`, `mid`, `long`, one tensor output, and on every call
        `node.meta["val"]`, `["stack_trace"]` and `["nn_module_stack"]`.

    Raises:
        ModelError: the network cannot be exported, or does not return one tensor.
    """
    try:
        with quiet(), torch.no_grad():
            exported = torch.export.export(module.eval(), tuple(frames), strict=False)
            table = get_decompositions(_UNKNOWN_TO_CONVERTERS)
            program = exported.run_decompositions(table).module(check_guards=False)
    except Exception as error:  # torch.export raises many types; all mean the same to a user
        raise ModelError(
            f"torch.export cannot trace the network: {first_line(error)}{own_line(error)}",
            expected="a forward without control flow or shapes that depend on values",
            fix=f"write what branches with torch.where; {VERBOSE}=1 shows PyTorch's own words",
        ) from error
    assert isinstance(program, fx.GraphModule)
    _flatten_signature(program)
    _views_to_reshapes(program)
    _strides_to_pools(program)
    _whole_numbers_to_floats(program)
    _masks_to_floats(program)
    _images_to_batches(program)
    _drop_assertions(program)
    program.graph.eliminate_dead_code()
    drop_unused_constants(program)
    program.recompile()
    return program


def _flatten_signature(program: fx.GraphModule) -> None:
    """Plain positional inputs named like the frames, and a bare tensor output."""
    program.graph.set_codegen(CodeGen())
    inputs = list(program.graph.find_nodes(op="placeholder"))
    if len(inputs) == len(INPUT_NAMES):
        for node, name in zip(inputs, INPUT_NAMES, strict=True):
            node.name = node.target = name
    output = program.graph.output_node()
    (values,) = output.args
    flat = list(values) if isinstance(values, tuple | list) else [values]
    if len(flat) != 1:
        raise ModelError(
            f"the network returns {len(flat)} values",
            expected="one HDR tensor",
            fix="wrap the network in a module that picks the HDR image",
        )
    output.args = (flat[0],)


def _views_to_reshapes(program: fx.GraphModule) -> None:
    """A view insists on the strides of this trace; channels-last runtimes have others."""
    for node in program.graph.nodes:
        if node.target in (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default):
            node.target = torch.ops.aten.reshape.default


def _strides_to_pools(program: fx.GraphModule) -> None:
    """A pool without a stride strides by its kernel; coremltools takes none without."""
    pools = (torch.ops.aten.max_pool2d.default, torch.ops.aten.avg_pool2d.default)
    for node in program.graph.nodes:
        if node.target in pools and len(node.args) == 2 and "stride" not in node.kwargs:
            node.args = (*node.args, node.args[1])


def _whole_numbers_to_floats(program: fx.GraphModule) -> None:
    """A 1 beside floats is 1.0: converters want numbers of one type, and so does float16's range.

    `clamp(0.1, 1)` fails in torch's exporter to ONNX, `where(mask, 1, x)` in coremltools.
    """
    for node in program.graph.nodes:
        beside = any(_is_float(value) for value in (node, *node.all_input_nodes))
        if kind_of(node) in _TAKES_VALUES and beside:
            node.args, node.kwargs = map_aggregate((node.args, node.kwargs), _as_float)


def _masks_to_floats(program: fx.GraphModule) -> None:
    """`x * mask` becomes `x * mask.float()`, as PyTorch computes it: integer kernels for floats
    know nothing of truth values and whole numbers."""
    for node in program.graph.nodes:
        if kind_of(node) in _PROMOTES and _is_float(node):
            others = [x for x in node.all_input_nodes if not _is_float(x)]
            with program.graph.inserting_before(node):
                for other in others:
                    converted = emit(program, _CONVERT, other, dtype=node.meta["val"].dtype)
                    converted.meta = {**node.meta, "val": converted.meta["val"]}
                    node.replace_input_with(other, converted)


def _images_to_batches(program: fx.GraphModule) -> None:
    """A convolution of C×H×W is one of 1×C×H×W."""
    for node in program.graph.nodes:
        if is_conv(node) and len(shape(image := Conv(node).input)) == 3:
            with program.graph.inserting_before(node):
                batch = emit(program, torch.ops.aten.unsqueeze.default, image, 0)
                done = emit_with(program, node, {image: batch})
                single = emit(program, torch.ops.aten.squeeze.dim, done, 0)
            for made in (batch, done, single):
                made.meta = {**node.meta, "val": made.meta["val"]}
            node.replace_all_uses_with(single)
            program.graph.erase_node(node)


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def _as_float(argument: Any) -> Any:
    return float(argument) if type(argument) is int else argument


def _drop_assertions(program: fx.GraphModule) -> None:
    """A conversion such as `x.long()` asserts the dtype of its trace: proofs run in float64."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            program.graph.erase_node(node)
