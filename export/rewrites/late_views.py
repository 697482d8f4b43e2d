"""What acts on single values or channels acts on a feature map before it is flattened, not behind.

    f(view(a), view(b))   =  view(f(a, b))          a, b: N×C×H×W of one shape
    norm(view(a))         =  view(norm(a))          batch norm in evaluation, N×C×HW

Written for matrix products over pixels, as in dynamic convolution decomposition, which are gone by
then. A flattened map is no image to converters: none of its channels goes last, and LiteRT's does
not quantise it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping

from torch import fx

from pockethdr.export.aten import (
    ELEMENTWISE,
    arguments,
    aten,
    batch_norm_of,
    emit,
    emit_with,
    is_call,
    shape,
)
from pockethdr.export.rewrite import Replacement

_VIEWS = (
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.dim,
    aten.unsqueeze.default,
)


class ViewLater:
    """Move views of feature maps behind what does not see them."""

    name = "late_views"

    def pattern(self, program: fx.GraphModule) -> Iterator[fx.Node]:
        maps = dict[fx.Node, tuple[int, ...]]()
        for node in program.graph.nodes:
            if is_call(node, *_VIEWS) and len(shape(node.all_input_nodes[0])) == 4:
                maps[node] = shape(node.all_input_nodes[0])
            elif (found := _map_of(node, maps)) is not None:
                maps[node] = found
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        norm = batch_norm_of(node)
        operands = node.all_input_nodes if norm is None else [arguments(norm)["input"]]
        maps = {view: view.all_input_nodes[0] for view in operands if is_call(view, *_VIEWS)}
        new = emit_with(program, norm or node, maps)
        if norm not in (None, node):
            new = emit(program, operator.getitem, new, 0)
        detail = f"on {'×'.join(map(str, shape(new)))} instead of {'×'.join(map(str, shape(node)))}"
        return Replacement(emit(program, aten.reshape.default, new, list(shape(node))), detail)


def _map_of(node: fx.Node, maps: Mapping[fx.Node, tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of the feature maps that `node` sees as views, when it would do without."""
    if (norm := batch_norm_of(node)) is not None:
        seen = arguments(norm)["input"]
        sizes = maps.get(seen)
        return sizes if sizes and shape(seen)[:2] == sizes[:2] else None
    if not is_call(node, *ELEMENTWISE) or len(shape(node)) == 4:
        return None
    if any(shape(operand) != shape(node) for operand in node.all_input_nodes):
        return None  # views of one map that are broadcast against each other
    found = {maps.get(operand) for operand in node.all_input_nodes}
    return found.pop() if len(found) == 1 else None
