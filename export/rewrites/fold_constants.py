"""Values that depend on constants alone are computed once.

    f(c₁, …, cₙ)  =  c          f: any deterministic operators, c: one stored buffer

LiteRT keeps `repeat`, `matmul` and their like on weights as run-time work, and a convolution whose
weight is a run-time value leaves the fast kernels; so the largest constant values are stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from pockethdr.export.rewrite import Replacement, add_constant, constant_of


class FoldConstants:
    """Store every maximal constant value as a buffer.

    Args:
        max_values: refuse to store more values than this, unless the inputs hold half as many.
    """

    name = "fold_constants"

    def __init__(self, *, max_values: int = 1 << 20) -> None:
        self.max_values = max_values

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        constant = _constant_nodes(program)
        for node in program.graph.nodes:
            is_read_outside = any(user not in constant for user in node.users)
            if node in constant and node.op != "get_attr" and is_read_outside:
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            return "its value is not one tensor"
        stored = sum(constant.numel() for constant in _sources(node, program))
        if value.numel() > max(self.max_values, 2 * stored):
            return f"would store {value.numel()} values computed from {stored}"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        with torch.no_grad():
            value = _evaluated(node, program, {})
        return Replacement(
            add_constant(program, node.name, value), f"{_size(value)} computed once, then stored"
        )


def _constant_nodes(program: fx.GraphModule) -> set[fx.Node]:
    constant: set[fx.Node] = set()
    for node in program.graph.nodes:
        is_computed = node.op == "call_function" and _is_deterministic(node)
        from_constants = all(source in constant for source in node.all_input_nodes)
        if node.op == "get_attr" or (is_computed and from_constants):
            constant.add(node)
    return constant


def _is_deterministic(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ())


def _sources(node: fx.Node, program: fx.GraphModule) -> list[Tensor]:
    """The stored tensors that `node` is computed from, each once."""
    seen, queue, found = {node}, [node], []
    while queue:
        current = queue.pop()
        constant = constant_of(current, program)
        if constant is not None:
            found.append(constant)
        fresh = [source for source in current.all_input_nodes if source not in seen]
        seen.update(fresh)
        queue += fresh
    return found


def _evaluated(node: fx.Node, program: fx.GraphModule, known: dict[fx.Node, Any]) -> Any:
    constant = constant_of(node, program)
    if constant is not None:
        return constant
    if node not in known:
        args, kwargs = fx.map_arg(
            (node.args, node.kwargs), lambda source: _evaluated(source, program, known)
        )
        known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return known[node]


def _size(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) or "a scalar"
