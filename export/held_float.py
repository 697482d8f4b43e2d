"""What keeps LiteRT's converter from making integer what is float in a Q/DQ program."""

from __future__ import annotations

import copy

from torch import fx

from pockethdr.export.aten import Conv, aten, is_call, is_conv
from pockethdr.export.codes import is_dequantize, is_quantize
from pockethdr.export.placement import FUSED, JOINS, RELAYOUTS, readers_behind
from pockethdr.export.program import kind_of

#: Added to a float32 it is lost, and yet no zero that a converter would leave out.
NOTHING = 1e-30
# Below every value, and a float32.
_LEAST = -3e38
# Softmax has a fixed scale in integers; the others are made of comparisons and selections, in which
# the converter gives the result the scale of the operand.
_HELD = (
    *(aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default),
    *(aten.softplus.default, aten.elu.default, aten.mish.default),
)


def held_float(program: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Q/DQ program in which the converter leaves float what is float.

    By itself it would

    - round the weights of a float convolution between pairs; of transposed ones it may, in a way
      that is known (`kernels`),
    - make some functions integer on scales that are not theirs (`_HELD`),
    - join values of several scales, which describe the whole image, on the first one's,
    - move a pair behind a float relayout in front of it, and give all that reads what is laid out
      the codes of one.

    What is put in between changes nothing but zeros, by 1e-30, and fits no pattern.
    """
    program = copy.deepcopy(program)
    for node in list(program.graph.nodes):
        for value in _misread(node):
            with program.graph.inserting_before(node):
                node.replace_input_with(value, _held(value, alone=is_quantize(node)))
    program.recompile()
    return program


def _misread(node: fx.Node) -> list[fx.Node]:
    """What `node` reads that the converter would not let it read as the program says."""
    if is_quantize(node):
        return [value for value in node.all_input_nodes if _is_moved_across(value)]
    if is_conv(node):
        conv = Conv(node)
        is_float = conv.weight.op == "get_attr" and not conv.transposed and _is_quantized(node)
        return [conv.input] if is_float and is_dequantize(conv.input) else []
    is_float_join = kind_of(node) in JOINS and not _is_quantized(node)
    if is_float_join or is_call(node, *_HELD):
        return [value for value in node.all_input_nodes if is_dequantize(_made_of(value)[-1])]
    return []


def _held(value: fx.Node, *, alone: bool) -> fx.Node:
    """`value + 1e-30`, clamped at −3e38 unless `alone`: an identity that no converter folds.

    A sum alone would go into the bias of a convolution without padding, a maximum alone would
    become integer with a value that is. In front of a pair it would, too, and its constant no code.
    """
    held = value.graph.call_function(aten.add.Tensor, (value, NOTHING))
    held.meta = dict(value.meta)
    if not alone:
        held = value.graph.call_function(aten.clamp_min.default, (held, _LEAST))
        held.meta = dict(value.meta)
    return held


def _is_moved_across(value: fx.Node) -> bool:
    """Whether the converter would move a pair behind `value` to where it changes what others read.

    That is in front of float relayouts. What quantises a convolution behind a relayout it gives to
    that reader alone.
    """
    *relayouts, origin = _made_of(value)
    if not relayouts or is_dequantize(origin):
        return False
    return any(len(n.users) > 1 for n in (*relayouts, *([] if is_conv(origin) else [origin])))


def _made_of(value: fx.Node) -> list[fx.Node]:
    """`value`, what it is another layout of, and so on to what is none."""
    chain = [value]
    while kind_of(chain[-1]) in RELAYOUTS:
        chain.append(chain[-1].all_input_nodes[0])
    return chain


def _is_quantized(value: fx.Node) -> bool:
    """Whether a reader quantises `value`, at once or behind what the converter looks through."""
    return any(is_quantize(reader) for reader in readers_behind(value, RELAYOUTS | JOINS | FUSED))
