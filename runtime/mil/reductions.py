"""MIL reductions and normalisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pockethdr.runtime.mil.arguments import Arguments, operator


def _enter_reduction(name: str, function: Callable[..., Tensor]) -> None:
    def reduce(a: Arguments) -> Tensor:
        x = a.tensor()
        axes = a.ints("axes", list(range(x.dim())))
        return function(x, axes, keepdim=a.flag("keep_dims"))

    operator(name)(reduce)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_mean": torch.mean,
    "reduce_sum": torch.sum,
    "reduce_max": torch.amax,
    "reduce_min": torch.amin,
    "reduce_l2_norm": lambda x, axes, keepdim: torch.linalg.vector_norm(x, 2, axes, keepdim),
    "reduce_log_sum_exp": torch.logsumexp,
}
for _name, _reduction in _REDUCTIONS.items():
    _enter_reduction(_name, _reduction)


@operator("reduce_sum_square")
def _reduce_sum_square(a: Arguments) -> Tensor:
    x = a.tensor().square()
    return x.sum(a.ints("axes", list(range(x.dim()))), keepdim=a.flag("keep_dims"))


@operator("reduce_argmax")
def _reduce_argmax(a: Arguments) -> Tensor:
    return a.tensor().argmax(a.integer("axis", -1), a.flag("keep_dims", True)).int()


@operator("cumsum")
def _cumsum(a: Arguments) -> Tensor:
    x, axis = a.tensor(), a.integer("axis")
    x = x.flip(axis) if a.flag("reverse") else x
    total = x.cumsum(axis) - (x if a.flag("exclusive") else 0)
    return total.flip(axis) if a.flag("reverse") else total


@operator("topk")
def _topk(a: Arguments) -> Sequence[Tensor]:
    x, axis, largest = a.tensor(), a.integer("axis", -1), not a.flag("ascending")
    count = a.integer("k", 1)
    found = x.topk(x.shape[axis] if count < 0 else count, axis, largest)
    return (found.values, found.indices.int())[: 1 + a.flag("return_indices", True)]


@operator("argsort")
def _argsort(a: Arguments) -> Tensor:
    axis, largest = a.integer("axis", -1), not a.flag("ascending")
    return a.tensor().argsort(dim=axis, descending=largest, stable=True).int()


@operator("layer_norm")
def _layer_norm(a: Arguments) -> Tensor:
    x = a.tensor()
    axes = a.ints("axes", list(range(x.dim())))
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + a.number("epsilon", 1e-5))
    shape = [x.shape[i] if i in {axis % x.dim() for axis in axes} else 1 for i in range(x.dim())]
    y = y * a.tensor("gamma").reshape(shape) if "gamma" in a else y
    return y + a.tensor("beta").reshape(shape) if "beta" in a else y


@operator("instance_norm")
def _instance_norm(a: Arguments) -> Tensor:
    return F.instance_norm(
        a.tensor(),
        weight=a.optional("gamma"),
        bias=a.optional("beta"),
        eps=a.number("epsilon", 1e-5),
    )


@operator("batch_norm")
def _batch_norm(a: Arguments) -> Tensor:
    return F.batch_norm(
        a.tensor(),
        a.tensor("mean"),
        a.tensor("variance"),
        a.optional("gamma"),
        a.optional("beta"),
        eps=a.number("epsilon", 1e-5),
    )
