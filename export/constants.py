"""What of a program is the same whatever its inputs: the one definition that rewrites share.

constant(f(x₁, …, xₙ))  =  f is deterministic and every xᵢ is constant
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from pockethdr.export.program import constant_of


class Constants:
    """The nodes of one program that depend on no input and no chance; evaluated when asked for."""

    def __init__(self, program: fx.GraphModule) -> None:
        self.program = program
        self._constant = dict[fx.Node, bool]()
        self._values = dict[fx.Node, Any]()

    def __contains__(self, node: fx.Node) -> bool:
        pending = [] if node in self._constant else [node]  # a network may be deeper than the stack
        while pending:
            unknown = [n for n in _sources(pending[-1]) if n not in self._constant]
            if unknown:
                pending += unknown
            else:
                asked = pending.pop()
                self._constant[asked] = self._is_constant(asked)
        return self._constant[node]

    def value(self, node: fx.Node) -> Tensor | None:
        """The tensor that `node` always has; None when it varies, or is not one tensor."""
        value = self._evaluated(node) if node in self else None
        return value if isinstance(value, Tensor) else None

    def _is_constant(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            return True
        is_computed = node.op == "call_function" and is_deterministic(node)
        return is_computed and all(self._constant[source] for source in _sources(node))

    def _evaluated(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return constant_of(node, self.program)
        if node not in self._values:
            args, kwargs = fx.map_arg((node.args, node.kwargs), self._evaluated)
            with torch.no_grad():
                self._values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return self._values[node]


def _sources(node: fx.Node) -> list[fx.Node]:
    return node.all_input_nodes if node.op == "call_function" else []


def is_deterministic(node: fx.Node) -> bool:
    """Whether an operator cannot draw random values; one that may, as attention, often does not."""
    return torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ())
