"""The same values from operators that XNNPACK, which runs TFLite files on CPUs, is quick at."""

from __future__ import annotations

import copy

from torch import fx

from pockethdr.export.aten import aten, calls, shape
from pockethdr.export.codes import is_dequantize, quantize_behind
from pockethdr.export.program import add_constant, constant_of, drop_unused_constants
from pockethdr.export.qparams import QMIN

# Far from the bounds that XNNPACK sets on a slope.
_LEAK = 0.25
# With 64 channels, a row of factors costs more to read than it saves calls.
_FEW_CHANNELS = 32
_BINARY = (aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.sub.Tensor)


def with_delegated_relus(program: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Q/DQ program in which integer ReLUs that no other kernel takes in are leaky ones.

    XNNPACK has no integer RELU but within another operation, and leaves one behind a concatenation,
    say, to a kernel that takes as long as a convolution. LEAKY_RELU it has. Only ReLUs whose codes
    begin at zero are changed: quantising their result clamps what leaks. Without any ReLU there,
    the converter would merge the pairs on both sides of it.
    """
    program = copy.deepcopy(program)
    for node in calls(program, aten.relu.default):
        source, stored = node.args[0], quantize_behind(node)
        if is_dequantize(source) and stored is not None and stored.args[2] == QMIN:
            node.target, node.args = aten.leaky_relu.default, (source, _LEAK)
    program.recompile()
    return program


def with_rows_of_factors(program: fx.GraphModule) -> fx.GraphModule:
    """A copy in which constants C×1×1 of few channels are repeated along the width, C×1×W.

    In N×H×W×C, a factor 1×1×1×C lies along the channels of one pixel, and XNNPACK calls its kernel
    for every pixel anew: of eight values it then spends most of its time on calls. One of 1×1×W×C
    it multiplies row by row.
    """
    program = copy.deepcopy(program)
    rows: dict[tuple[fx.Node, int], fx.Node] = {}
    for node in list(calls(program, *_BINARY)):
        for constant in node.all_input_nodes:
            if not _is_for_few_channels(constant, node, program):
                continue
            width = shape(node)[3]
            if (constant, width) not in rows:
                row = (*shape(constant)[:-1], width)
                value = constant_of(constant, program)
                assert value is not None
                with program.graph.inserting_after(constant):
                    name = f"{constant.name}_row"
                    rows[constant, width] = add_constant(program, name, value.expand(row))
            node.replace_input_with(constant, rows[constant, width])
    program.graph.eliminate_dead_code()
    drop_unused_constants(program)
    program.recompile()
    return program


def _is_for_few_channels(constant: fx.Node, node: fx.Node, program: fx.GraphModule) -> bool:
    """Whether `constant` is C×1×1 or 1×C×1×1 beside images of N×C×H×W, and C is small."""
    if constant_of(constant, program) is None or len(shape(node)) != 4:
        return False
    channels = shape(node)[1]
    return (
        1 < channels <= _FEW_CHANNELS
        and shape(node)[3] > 1
        and shape(constant) in ((channels, 1, 1), (1, channels, 1, 1))
    )
