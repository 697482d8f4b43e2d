"""MIL operators on single values: elementwise, casts, quantize and dequantize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pockethdr.runtime.mil.arguments import Arguments, operator


def _enter_unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    operator(name)(lambda a: function(a.tensor()))


def _enter_binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    operator(name)(lambda a: function(a.tensor(), a.tensor("y")))


_UNARY: dict[str, Callable[..., Any]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "softsign": F.softsign,
    "abs": torch.abs,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "erf": torch.erf,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "sign": torch.sign,
    "logical_not": torch.logical_not,
    "identity": lambda x: x,
}
for _name, _unary in _UNARY.items():
    _enter_unary(_name, _unary)

_BINARY: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}
for _name, _binary in _BINARY.items():
    _enter_binary(_name, _binary)


@operator("leaky_relu")
def _leaky_relu(a: Arguments) -> Tensor:
    return F.leaky_relu(a.tensor(), a.number("alpha"))


@operator("prelu")
def _prelu(a: Arguments) -> Tensor:
    return F.prelu(a.tensor(), a.tensor("alpha"))


@operator("elu")
def _elu(a: Arguments) -> Tensor:
    return F.elu(a.tensor(), a.number("alpha", 1.0))


@operator("softplus")
def _softplus(a: Arguments) -> Tensor:
    return F.softplus(a.tensor())


@operator("gelu")
def _gelu(a: Arguments) -> Tensor:
    kinds = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
    mode = a.text("mode", "EXACT")
    if mode not in kinds:
        raise NotImplementedError(f"gelu of mode {mode}")
    return F.gelu(a.tensor(), approximate=kinds[mode])


@operator("sigmoid_hard")
def _sigmoid_hard(a: Arguments) -> Tensor:
    return (a.number("alpha", 0.2) * a.tensor() + a.number("beta", 0.5)).clamp(0, 1)


@operator("linear_activation")
def _linear_activation(a: Arguments) -> Tensor:
    return a.number("alpha") * a.tensor() + a.number("beta")


@operator("thresholded_relu")
def _thresholded_relu(a: Arguments) -> Tensor:
    x = a.tensor()
    return torch.where(x >= a.number("alpha", 1.0), x, torch.zeros_like(x))


@operator("threshold")
def _threshold(a: Arguments) -> Tensor:
    return a.tensor().clamp(min=a.number("alpha"))


@operator("clip")
def _clip(a: Arguments) -> Tensor:
    return a.tensor().clamp(a.number("alpha"), a.number("beta", 1.0))


@operator("rsqrt")
def _rsqrt(a: Arguments) -> Tensor:
    return torch.rsqrt(a.tensor() + a.number("epsilon", 1e-12))


@operator("log")
def _log(a: Arguments) -> Tensor:
    return torch.log(a.tensor() + a.number("epsilon", 1e-45))


@operator("inverse")
def _inverse(a: Arguments) -> Tensor:
    return 1 / (a.tensor() + a.number("epsilon", 1e-4))


@operator("softmax")
def _softmax(a: Arguments) -> Tensor:
    return F.softmax(a.tensor(), a.integer("axis", -1))


@operator("select")
def _select(a: Arguments) -> Tensor:
    return torch.where(a.tensor("cond").bool(), a.tensor("a"), a.tensor("b"))


@operator("cast")
def _cast(a: Arguments) -> Tensor:
    x, kind = a.tensor(), a.text("dtype", "fp32")
    if kind == "fp16":
        return x.half().float()
    return x.to(_DTYPES[kind])


_DTYPES = {
    "fp32": torch.float32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
    "bool": torch.bool,
}


@operator("quantize")
def _quantize(a: Arguments) -> Tensor:
    """clip(round(x / scale) + zero point), rounding half to even. Codes are kept as float32."""
    x = a.tensor("input")
    scale, zero_point = _coding(a, x)
    low, high = (-128, 127) if a.text("output_dtype", "int8") == "int8" else (0, 255)
    return (torch.round(x / scale) + zero_point).clamp(low, high)


@operator("dequantize")
def _dequantize(a: Arguments) -> Tensor:
    codes = a.tensor("input").float()
    scale, zero_point = _coding(a, codes)
    return (codes - zero_point) * scale


def _coding(a: Arguments, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point, shaped to broadcast along `axis` when they differ per channel."""
    scale = a.tensor("scale").float()
    zero_point = a.tensor("zero_point").float() if "zero_point" in a else torch.zeros_like(scale)
    if scale.numel() == 1:
        return scale.reshape(()), zero_point.reshape(-1)[0]
    shape = [1] * x.dim()
    shape[a.integer("axis")] = -1
    return scale.reshape(shape), zero_point.expand_as(scale).reshape(shape)
