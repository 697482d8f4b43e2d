"""Everything computed in float64, whatever constants and conversions a network makes on its way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class InFloat64(TorchDispatchMode):
    """A block in which no floating-point value is of single precision.

    `module.double()` reaches parameters and buffers. A forward pass that calls `torch.ones(3)` or
    `mask.float()`, or reads a tensor that is no buffer, meets them with values of float32, which a
    convolution refuses and anything else rounds to. What is written in place is left as it is.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func._schema.is_mutable:
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(_widened, (args, kwargs or {}))
        return tree_map(_widened, func(*args, **kwargs))


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype == torch.float32 else value
    return torch.float64 if value is torch.float32 else value
