"""From graph nodes to normal form, through the rules of `expand_rules`.

A node is *opened* when its value is written through its operands, and a *leaf* when it is taken as
it stands. Views are always opened; an activation, a pooling or a convolution never is; the search
in `lowrank` chooses for the rest.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from pockethdr.export import algebra
from pockethdr.export.algebra import NotAligned, Value, Window
from pockethdr.export.aten import Conv, arguments, aten, shape
from pockethdr.export.constants import Constants
from pockethdr.export.expand_layout import BROADCASTS, SPLITS, VIEWS, dropped, taken
from pockethdr.export.expand_rules import RULES


class Expansion:
    """The normal forms of the nodes of one program.

    Args:
        constants: the program's constants, in float64 so that they are composed exactly.
        opened: nodes to write through their operands.
    """

    def __init__(self, constants: Constants, opened: frozenset[fx.Node]) -> None:
        self.constants, self.opened = constants, opened
        self.visited = dict[fx.Node, Value]()
        self.closed = dict[fx.Node, None]()  # leaves that could have been opened

    def of(self, node: fx.Node) -> Value:
        """The normal form of `node`."""
        if node not in self.visited:
            self.visited[node] = self._expanded(node)
        return self.visited[node]

    def _expanded(self, node: fx.Node) -> Value:
        known = self.constants.value(node)
        if known is not None and node.target not in BROADCASTS:
            return algebra.constant(known)
        if node.target is operator.getitem:
            return self._piece(node)
        rule = RULES.get(node.target) if node.op == "call_function" else None
        if rule is None:
            return algebra.leaf(node)
        if node.target not in VIEWS and node not in self.opened:
            self.closed[node] = None
            return algebra.leaf(node)
        try:
            return rule(self, arguments(node))
        except NotAligned:
            return algebra.leaf(node)

    def _piece(self, node: fx.Node) -> Value:
        """One output of a split or unbind."""
        source, index = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(index, int)
        if source.target not in (*SPLITS, aten.unbind.int):
            return algebra.leaf(node)
        a = arguments(source)
        value = self.operand(a["self"])
        dim = a["dim"] % len(value.axes)
        start = sum(other.shape[dim] for other in source.meta["val"][:index])
        try:
            if source.target is aten.unbind.int:
                return dropped(taken(value, dim, [index]), dim)
            return taken(value, dim, range(start, start + shape(node)[dim]))
        except NotAligned:
            return algebra.leaf(node)

    def operand(self, value: Any) -> Value:
        """A node, a Python number or a tensor as a value."""
        if isinstance(value, fx.Node):
            return self.of(value)
        return algebra.constant(torch.as_tensor(value, dtype=torch.float64))


def window_of(conv: Conv) -> Window:
    """How a convolution cuts windows out of its input."""
    return Window(conv.kernel, conv.stride, conv.padding, conv.dilation)
