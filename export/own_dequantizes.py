"""A dequantised value for each reader, for LiteRT.

Where a reader of one wants its channels first, such as a sum over channels or a matrix product over
pixels, LiteRT's converter forgets the shape of the value, and then does not lay it out for those
that want them last.
"""

from __future__ import annotations

import copy

from torch import fx

from pockethdr.export.codes import is_dequantize


def own_dequantizes(program: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Q/DQ program in which every reader dequantises for itself."""
    program = copy.deepcopy(program)
    for node in list(program.graph.nodes):
        for reader in list(node.users)[1:] if is_dequantize(node) else ():
            with program.graph.inserting_after(node):
                own = program.graph.node_copy(node)
            reader.replace_input_with(node, own)
    program.recompile()
    return program
