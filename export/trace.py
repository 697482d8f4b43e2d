"""From an `nn.Module` to a program: a flat graph of ATen operators with constant weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch.fx.graph import CodeGen

from pockethdr.errors import ModelError, first_line, own_line
from pockethdr.export.program import drop_unused_constants
from pockethdr.export.quiet import VERBOSE, quiet
from pockethdr.export.targets import INPUT_NAMES

_UNKNOWN_TO_CONVERTERS = [torch.ops.aten.channel_shuffle.default, torch.ops.aten.celu.default]


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
            f"the network returns {len(flat)} values", expected="one HDR tensor", fix="wrap it"
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


def _drop_assertions(program: fx.GraphModule) -> None:
    """A conversion such as `x.long()` asserts the dtype of its trace: proofs run in float64."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            program.graph.erase_node(node)
