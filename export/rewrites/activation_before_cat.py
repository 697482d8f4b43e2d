"""An activation behind a concatenation goes in front of it, to each of its parts.

    f(concat(a, b, …))  =  concat(f(a), f(b), …)          f: ReLU, ReLU6 or leaky ReLU

A part that nothing else reads then has its ReLU inside the convolution that made it. And in
integers the parts of a concatenation share one scale: behind f they need fewer of its codes, and
what else reads a part, as the encoder that a skip connection comes from, need not share it.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from pockethdr.export.aten import aten, calls, emit, is_call
from pockethdr.export.placement import is_move
from pockethdr.export.rewrite import Replacement

_ACTIVATIONS = (aten.relu.default, aten.relu6.default, aten.leaky_relu.default)


class ActivateBeforeCat:
    """Move activations from behind concatenations that nothing else reads to in front of them."""

    name = "activation_before_cat"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for node in calls(program, *_ACTIVATIONS):
            (joined, *_) = node.all_input_nodes
            if is_call(joined, aten.cat.default) and len(joined.users) == 1:
                yield node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        if is_move(node.all_input_nodes[0]):
            return "the parts are pieces of one tensor, which is activated in one go"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        (joined,) = node.all_input_nodes
        parts, *axis = joined.args
        assert isinstance(parts, list | tuple)
        activated = {
            part: emit(program, node.target, part, *node.args[1:], **node.kwargs)
            for part in dict.fromkeys(parts)
        }
        new = emit(program, aten.cat.default, [activated[part] for part in parts], *axis)
        return Replacement(new, f"{len(activated)} parts activated before they are joined")
