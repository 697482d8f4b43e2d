"""Views of more axes than Core ML has, left to its converter to join.

    x → view to rank 6 → permute → view back            windows of attention, for instance

coremltools makes one operation of fewer axes of such a chain, unless quantize/dequantize pairs lie
within. Behind a dequantize with the same codes they change nothing, and are taken out.
"""

from __future__ import annotations

import copy

from torch import fx

from pockethdr.export.aten import shape
from pockethdr.export.codes import is_dequantize, is_quantize
from pockethdr.export.placement import MOVES
from pockethdr.export.program import kind_of

#: Core ML's tensors have no more axes.
MAX_RANK = 5


def without_high_rank_pairs(program: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Q/DQ program without pairs that Core ML cannot hold, where they are idle."""
    program = copy.deepcopy(program)
    for stored in [node for node in program.graph.nodes if is_quantize(node)]:
        (value,) = stored.all_input_nodes
        if len(shape(value)) > MAX_RANK and _has_codes_of(value, stored):
            for real in list(stored.users):
                real.replace_all_uses_with(value)
    program.graph.eliminate_dead_code()
    program.recompile()
    return program


def _has_codes_of(value: fx.Node, stored: fx.Node) -> bool:
    """Whether `value` is another layout of what was dequantised from the codes of `stored`."""
    while kind_of(value) in MOVES:
        value = value.all_input_nodes[0]
    return is_dequantize(value) and value.args[1:] == stored.args[1:]
