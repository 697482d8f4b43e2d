"""How an INT8 program reads its frames: eight bits for pixels and aligned pixels alike.

A frame holds pixels in [0, 1] and the same divided by the exposure ratio, at most 1 / ratio. On one
scale of 256 codes a ratio of 16 leaves the second half sixteen of them (64 of its square root). So
that half is multiplied by a gain before it is quantised, and the first convolution's weights are
divided by it: the same function, exactly. A square root of the frame comes before the gain.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import fx

from pockethdr.export.aten import Conv, aten, emit, is_conv, shape
from pockethdr.export.recipe import RecipeError
from pockethdr.export.rewrite import add_constant, constant_of, drop_unused_constants


def with_input_gains(program: fx.GraphModule, gains: Sequence[float]) -> fx.GraphModule:
    """A copy of `program` that multiplies the aligned half of each frame by its gain.

    Args:
        gains: of short, mid, long; 1 for none, empty for none at all.

    Raises:
        RecipeError: something other than a convolution with constant weights reads a frame.
    """
    program = copy.deepcopy(program)
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    for frame, gain in zip(inputs, gains, strict=False):
        if gain != 1:
            _apply_gain(program, frame, _coded(frame), inputs[-1], gain)
    drop_unused_constants(program)
    program.graph.lint()
    program.recompile()
    return program


def _coded(frame: fx.Node) -> fx.Node:
    """What the network sees of the frame: its square root, where that is all that reads it."""
    users = list(frame.users)
    alone = len(users) == 1 and users[0].target is aten.sqrt.default
    return users[0] if alone else frame


def _apply_gain(
    program: fx.GraphModule, frame: fx.Node, seen: fx.Node, last: fx.Node, gain: float
) -> None:
    """`last` is the last input: no constant may stand before it."""
    readers = list(seen.users)
    others = [user.name for user in readers if not _is_static(user, program)]
    if others:
        raise RecipeError(
            f"input_gains: {', '.join(others)} reads the frame `{frame.name}`",
            expected="a network whose first operations are convolutions of one frame each",
            fix="leave input_gains out, and keep the inputs float (float_first)",
        )
    factors = torch.ones(1, shape(frame)[1], 1, 1)
    factors[:, factors.shape[1] // 2 :] = gain
    with program.graph.inserting_after(last if seen is frame else seen):
        constant = add_constant(program, f"{frame.name}_gains", factors)
        with program.graph.inserting_after(constant):
            scaled = emit(program, aten.mul.Tensor, seen, constant)
    for reader in readers:
        weight = constant_of(Conv(reader).weight, program)
        assert weight is not None
        with program.graph.inserting_before(reader):
            divided = add_constant(program, f"{reader.name}_weight", weight / factors)
        reader.args = (scaled, divided, *reader.args[2:])


def _is_static(node: fx.Node, program: fx.GraphModule) -> bool:
    return is_conv(node) and constant_of(Conv(node).weight, program) is not None
