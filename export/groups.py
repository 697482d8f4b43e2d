"""What can be kept in float together: the integer operations of one module, or one outside of all.

A module that runs on several frames is one group: its weights are stored once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import fx

from pockethdr.export.placement import FUSED, is_move, macs_of, operations, placement_for
from pockethdr.export.program import kind_of, module_of, shape_of
from pockethdr.export.recipe import Recipe
from pockethdr.export.scheme import Scheme

#: Multiplications that moving one value through memory takes the time of: with 32 channels a 3×3
#: convolution does 288 of them per value, and takes about that many times as long as an addition
#: takes for 16.
_PER_VALUE = 16


@dataclass(frozen=True)
class Group:
    """Operations that are integer or float together.

    Attributes:
        name: of their module, or of the one operation.
        nodes: names, for a recipe's `float_nodes`.
        cost: multiplications, and their equivalent of moved values, that float would slow down.
    """

    name: str
    nodes: tuple[str, ...]
    cost: int


def groups_of(program: fx.GraphModule, recipe: Recipe, scheme: Scheme) -> list[Group]:
    """The groups of everything that `recipe` makes integer, in graph order."""
    placed = placement_for(program, recipe, scheme)
    integer = set(placed.integer)
    members: dict[str, list[fx.Node]] = {}
    for node in operations(program):
        if node in integer and not is_move(node):
            made_by = node.all_input_nodes[0] if kind_of(node) in FUSED else node
            owner = made_by if made_by in integer else node
            members.setdefault(module_of(owner) or owner.name, []).append(node)
    return [
        Group(name, tuple(n.name for n in nodes), sum(_cost(n) for n in nodes))
        for name, nodes in members.items()
    ]


def _cost(node: fx.Node) -> int:
    return macs_of(node) + _PER_VALUE * math.prod(shape_of(node))
