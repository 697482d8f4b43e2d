"""Values that depend on constants alone are computed once.

    f(c₁, …, cₙ)  =  c          f: any deterministic operators, c: one stored buffer

LiteRT keeps `repeat`, `matmul` and their like on weights as run-time work, and a convolution whose
weight is a run-time value leaves the fast kernels; so the largest constant values are stored.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, fx

from pockethdr.export.constants import Constants
from pockethdr.export.program import add_constant, constant_of, with_ancestors
from pockethdr.export.rewrite import Replacement


class FoldConstants:
    """Store every maximal constant value as a buffer.

    Args:
        max_values: refuse to store more values than this, unless the inputs hold half as many.
    """

    name = "fold_constants"

    def __init__(self, *, max_values: int = 1 << 20) -> None:
        self.max_values = max_values

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        constants = Constants(program)
        for node in program.graph.nodes:
            is_read_outside = any(user not in constants for user in node.users)
            if node in constants and node.op != "get_attr" and is_read_outside:
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
        value = Constants(program).value(node)
        assert value is not None
        return Replacement(
            add_constant(program, node.name, value), f"{_size(value)} computed once, then stored"
        )


def _sources(node: fx.Node, program: fx.GraphModule) -> list[Tensor]:
    """The stored tensors that `node` is computed from, each once."""
    stored = (constant_of(source, program) for source in with_ancestors([node]))
    return [constant for constant in stored if constant is not None]


def _size(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) or "a scalar"
