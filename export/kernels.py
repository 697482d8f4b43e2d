"""The integer convolutions of a program, as each target's file has to hold them, bit for bit.

A kernel is integer weights, one scale for each output channel, a bias, and the code of the tensor
that it reads. No converter may change any of them, so they are compared exactly: each part is
brought to the number type of the file, and fingerprinted.

    onnx     float32 scales and bias
    tflite   float32 scales, int32 bias in steps of input scale × weight scale
    coreml   float16 scales and bias
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from pockethdr.export.aten import Conv, convs
from pockethdr.export.codes import code, is_dequantize, is_quantize, real_type
from pockethdr.export.placement import JOINS, RELAYOUTS, readers_behind
from pockethdr.export.program import constant_of

Array = NDArray[Any]
PARTS = ("weights", "scales", "bias", "reads")


@dataclass(frozen=True)
class Kernel:
    """A convolution on integers: its name, a fingerprint of each part, and the code it reads."""

    name: str
    weights: str
    scales: str
    bias: str
    reads: str

    @property
    def fingerprint(self) -> tuple[str, ...]:
        """Of all parts: equal where the two are the same but for their names."""
        return tuple(getattr(self, part) for part in PARTS)

    def differs_in(self, other: Kernel) -> list[str]:
        """The parts in which the two are not the same."""
        return [part for part in PARTS if getattr(self, part) != getattr(other, part)]

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def stored_kernel(
    name: str,
    weights: Array,
    scales: Array,
    bias: Array | None,
    reads: str,
    *,
    target: str,
    bias_steps: Array | None = None,
) -> Kernel:
    """What a convolution of these values is known by, alike of a program and of a file.

    Args:
        weights: int8 codes, out×in×h×w (of a transposed convolution in×out×h×w).
        scales: one for each output channel.
        bias: float, or int32 in units of `bias_steps`; None is zeros.
        reads: the `code` of the input; empty when it is float.
        bias_steps: for integer biases only.
    """
    real = real_type(target)
    channels = np.ravel(scales).astype(real)
    added = np.zeros(len(channels)) if bias is None else np.ravel(bias)
    steps = np.zeros(0) if bias_steps is None else np.ravel(bias_steps)
    stored = added.astype(real if bias_steps is None else np.int32)
    return Kernel(
        name,
        _fingerprint(np.ascontiguousarray(weights, np.int8), weights.shape),
        _fingerprint(channels),
        # − 0 and 0 are one bias
        _fingerprint(stored + stored.dtype.type(0), _fingerprint(steps.astype(real))),
        reads,
    )


def kernels_of_program(program: fx.GraphModule, target: str) -> list[Kernel]:
    """Every convolution of a Q/DQ program whose weights are integers, or become so.

    LiteRT's converter rounds the weights of a transposed convolution between pairs by itself, and
    leaves it float when anything reads it without one.
    """
    every = _convolutions(program)
    given = [c for c in every if _has_integer_weights(c)]
    found = [_kernel_of(c, *_weights_of(c.weight, program), program, target) for c in given]
    if target == "tflite":
        left = [c for c in every if _is_rounded_by_litert(c)]
        found += [_kernel_of(c, *_rounded_by_litert(c, program), program, target) for c in left]
    return found


def int8_mac_share(program: fx.GraphModule) -> float:
    """Share in [0, 1] of a Q/DQ program's convolutions, by multiplications, that are integer.

    The files' own checks count alike; a converter may make more of them integer, and not fewer.
    """
    every = _convolutions(program)
    integer = [c for c in every if _has_integer_weights(c) and is_dequantize(c.input)]
    total = sum(c.macs for c in every)
    return sum(c.macs for c in integer) / total if total else 0.0


def _convolutions(program: fx.GraphModule) -> list[Conv]:
    return [Conv(node) for node in convs(program)]


def _is_rounded_by_litert(conv: Conv) -> bool:
    """Whether LiteRT's converter makes a float transposed convolution integer: between pairs.

    It looks for them behind moves, joins and ReLUs. A ReLU6 it leaves float, and what that reads.
    """
    whole = conv.transposed and conv.groups == 1  # in groups it is taken apart, in float
    if not (whole and conv.weight.op == "get_attr" and is_dequantize(conv.input)):
        return False
    readers = list(readers_behind(conv.node, RELAYOUTS | JOINS | {"aten.relu"}))
    return bool(readers) and all(map(is_quantize, readers))


def _has_integer_weights(conv: Conv) -> bool:
    return "dequantize_per_channel" in str(conv.weight.target)


def _rounded_by_litert(conv: Conv, program: fx.GraphModule) -> tuple[Array, Array]:
    """Its weights, out×in×h×w, in steps of the largest of each output channel over 127."""
    weight = _value(conv.weight, program).detach().numpy().swapaxes(0, 1)
    scales = np.abs(weight).max((1, 2, 3)).astype(np.float64) / 127
    return np.rint(weight / scales.astype(np.float32).reshape(-1, 1, 1, 1)), scales


def _kernel_of(
    conv: Conv, weights: Array, scales: Array, program: fx.GraphModule, target: str
) -> Kernel:
    bias = None if conv.bias is None else _value(conv.bias, program).detach().numpy()
    if not is_dequantize(conv.input):
        return stored_kernel(conv.node.name, weights, scales, bias, "", target=target)
    scale, zero = (float(conv.input.args[1]), int(conv.input.args[2]))  # type: ignore[arg-type]
    steps = None
    if target == "tflite":
        steps = scale * scales.astype(np.float64)
        bias = np.rint((0.0 if bias is None else bias.astype(np.float64)) / steps)
    return stored_kernel(
        conv.node.name, weights, scales, bias, code(scale, zero, target),
        target=target, bias_steps=steps,
    )  # fmt: skip


def _weights_of(dequantize: fx.Node, program: fx.GraphModule) -> tuple[Array, Array]:
    """Integer weights and scales, whether they are folded or a pair around float weights."""
    stored, scales, zeros, *span = dequantize.args
    assert isinstance(stored, fx.Node)
    step, zero = _value(scales, program), _value(zeros, program)
    if stored.op == "get_attr":
        codes = _value(stored, program)
    else:
        quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
        codes = quantize(_value(stored.args[0], program), step, zero, *span)
    return codes.detach().numpy(), step.detach().numpy()


def _value(node: Any, program: fx.GraphModule) -> Tensor:
    value = constant_of(node, program)
    assert value is not None
    return value


def _fingerprint(values: Array, *more: Any) -> str:
    return hashlib.sha256(values.tobytes() + repr(more).encode()).hexdigest()[:16]
