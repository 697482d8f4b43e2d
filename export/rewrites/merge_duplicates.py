"""What is computed twice is computed once.

    y = f(x; a), z = f(x; a)  =  y = f(x; a), z = y      f: any operator without chance or effects

Constants are equal when their values are: a layer called twice is folded twice, into one each.
Converters merge such places too, but of two that got a scale each LiteRT's leaves one in float.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, fx

from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement


class MergeDuplicates:
    """Replace every operator that repeats an earlier one.

    Comes behind all that folds: what two operators read is left alone by rewrites that would fold
    it into either.
    """

    name = "merge_duplicates"

    def __init__(self) -> None:
        self._firsts = dict[fx.Node, fx.Node]()

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        self._firsts = _firsts(program)
        calls = (node for node in self._firsts if node.op == "call_function")
        return [node for node in calls if isinstance(node.meta.get("val"), Tensor)]

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        first = self._firsts[node]
        return Replacement(first, f"the same as `{first}`, computed once")


def _firsts(program: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """For each node that repeats an earlier one, in graph order, the first of its kind."""
    firsts, seen = dict[fx.Node, fx.Node](), dict[object, fx.Node]()
    for node in program.graph.nodes:
        if node.is_impure():
            continue
        value = constant_of(node, program)
        if value is not None:
            kind: object = (value.dtype, value.shape, value.detach().numpy().tobytes())
        else:  # as text, in which 1 is not 1.0 and a list can be a key
            reads = fx.map_arg((node.args, node.kwargs), lambda read: firsts.get(read, read))
            kind = (node.target, repr(reads))
        first = seen.setdefault(kind, node)
        if first is not node:
            firsts[node] = first
    return firsts
