"""How an INT8 program reads its frames: eight bits for pixels and aligned pixels alike.

A frame holds pixels in [0, 1] and the same divided by the exposure ratio, at most 1 / ratio. On one
scale of 256 codes a ratio of 16 leaves the second half sixteen of them (64 of its square root). So
that half is multiplied by a gain before it is quantised, and the first convolution's weights are
divided by it: the same function, proved in float64. A square root of the frame comes before the
gain.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from pockethdr.export.aten import Conv, aten, by_group, emit, from_groups, is_conv, shape
from pockethdr.export.program import add_constant, constant_of, drop_unused_constants, refresh_meta
from pockethdr.export.recipe import RecipeError
from pockethdr.export.rewrite import Replacement, place_proofs, require_proved


def with_input_gains(program: fx.GraphModule, gains: Sequence[float]) -> fx.GraphModule:
    """A copy of `program` that multiplies the aligned half of each frame by its gain.

    All happens in float64, where the convolutions are proved to be what they were; weights are
    rounded once, at the end, and not at all when the gains are powers of two.

    Args:
        gains: of short, mid, long; 1 for none, empty for none at all.

    Raises:
        RecipeError: something other than a convolution with constant weights reads a frame.
        ProofError: a convolution gives other values than before.
    """
    untouched = copy.deepcopy(program)
    if all(gain == 1 for gain in gains):
        return untouched
    untouched.double()
    scaled = copy.deepcopy(untouched)
    inputs = list(scaled.graph.find_nodes(op="placeholder"))
    readers = list[fx.Node]()
    for frame, gain in zip(inputs, gains, strict=True):
        if gain != 1:
            readers += _apply_gain(scaled, frame, _coded(frame), inputs[-1], gain)
    drop_unused_constants(scaled)
    scaled.graph.lint()
    scaled.recompile()
    _prove(untouched, scaled, readers)
    scaled.float()
    refresh_meta(scaled, _random_frames(scaled))
    return scaled


def _coded(frame: fx.Node) -> fx.Node:
    """What the network sees of the frame: its square root, where that is all that reads it."""
    users = list(frame.users)
    alone = len(users) == 1 and users[0].target is aten.sqrt.default
    return users[0] if alone else frame


def _apply_gain(
    program: fx.GraphModule, frame: fx.Node, seen: fx.Node, last: fx.Node, gain: float
) -> list[fx.Node]:
    """The convolutions that read the frame, now scaled.

    `last` is the last input: no constant may stand before it.
    """
    readers = list(seen.users)
    others = [user.name for user in readers if not _is_static(user, program)]
    if others:
        raise RecipeError(
            f"input_gains: {', '.join(others)} reads the frame `{frame.name}`",
            expected="a network whose first operations are convolutions of one frame each",
            fix="take a recipe without input_gains, such as --recipe all-but-last",
        )
    factors = torch.ones(1, shape(frame)[1], 1, 1, dtype=torch.float64)
    factors[:, factors.shape[1] // 2 :] = gain
    with program.graph.inserting_after(last if seen is frame else seen):
        constant = add_constant(program, f"{frame.name}_gains", factors)
        with program.graph.inserting_after(constant):
            scaled = emit(program, aten.mul.Tensor, seen, constant)
    for reader in readers:
        conv = Conv(reader)
        weight = constant_of(conv.weight, program)
        assert weight is not None
        with program.graph.inserting_before(reader):
            name = f"{reader.name}_weight"
            divided = add_constant(program, name, _divided(conv, weight, factors))
        reader.args = (scaled, divided, *reader.args[2:])
    return readers


def _divided(conv: Conv, weight: Tensor, factors: Tensor) -> Tensor:
    """`weight` over the factor 1×Cin×1×1 of the input channel that each of its values meets."""
    return from_groups(conv, by_group(conv, weight) / factors.reshape(conv.groups, 1, -1, 1, 1))


def _is_static(node: fx.Node, program: fx.GraphModule) -> bool:
    return is_conv(node) and constant_of(Conv(node).weight, program) is not None


def _prove(before: fx.GraphModule, after: fx.GraphModule, readers: Sequence[fx.Node]) -> None:
    """Everything else in the graph is as it was."""
    places = {reader.name: (reader, Replacement(reader)) for reader in readers}
    frames = [frame.double() for frame in _random_frames(before)]
    require_proved(place_proofs("input_gains", before, after, places, [frames]))


def _random_frames(program: fx.GraphModule) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    frames = program.graph.find_nodes(op="placeholder")
    return [torch.rand(shape(frame), generator=generator) for frame in frames]
