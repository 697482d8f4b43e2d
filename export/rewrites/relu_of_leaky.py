"""A ReLU of what a leaky ReLU reads too becomes a ReLU of the leaky one.

    relu(x)  =  relu(leaky(x))                         leaky(x) = max(x, a x), 0 ≤ a ≤ 1

x then has one reader. In integers its codes are for that one alone, while those of leaky(x), which
the ReLU reads instead, hold next to nothing below zero. And LiteRT's converter knows an activation
by its comparison with zero: two that share one both fall to pieces, GREATER_EQUAL, MUL and SELECT.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, is_call
from pockethdr.export.rewrite import Replacement


class ReluOfLeaky:
    """Let ReLUs read the leaky ReLU of their input where there is one before them."""

    name = "relu_of_leaky"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return (n for n in calls(program, aten.relu.default) if _leaky_before(n))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        slope = arguments(_leaky_before(node)[0])["negative_slope"]
        if not 0 <= slope <= 1:
            return f"relu(x) = relu(leaky(x)) needs a slope from 0 to 1, it is {slope}"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        leaky, *_ = _leaky_before(node)
        return Replacement(emit(program, aten.relu.default, leaky), f"reads {leaky}")


def _leaky_before(node: fx.Node) -> list[fx.Node]:
    """The leaky ReLUs of what `node` reads that come before `node`."""
    readers = node.all_input_nodes[0].users
    return [n for n in readers if is_call(n, aten.leaky_relu.default) and n < node]
