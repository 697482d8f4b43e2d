"""How MIL operators get their arguments, and the table that they enter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Result = Tensor | Sequence[Tensor]
Operator = Callable[["Arguments"], Result]
OPERATORS: dict[str, Operator] = {}


class Arguments:
    """The arguments of one operation: tensors as torch tensors, the rest as plain Python values."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def tensor(self, name: str = "x") -> Tensor:
        value = self._values[name]
        return value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self else None

    def tensors(self, name: str) -> list[Tensor]:
        return [v if isinstance(v, Tensor) else torch.as_tensor(v) for v in self._values[name]]

    def ints(self, name: str, default: Sequence[int] = ()) -> list[int]:
        if name not in self:
            return list(default)
        return [int(v) for v in np.asarray(self._values[name]).reshape(-1)]

    def integer(self, name: str, default: int = 0) -> int:
        return self.ints(name, [default])[0]

    def number(self, name: str, default: float = 0.0) -> float:
        return float(np.asarray(self._values[name]).item()) if name in self else default

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(np.asarray(self._values[name]).item()) if name in self else default

    def flags(self, name: str, count: int) -> list[bool]:
        return [bool(v) for v in self.ints(name, [0] * count)]

    def text(self, name: str, default: str) -> str:
        return str(self._values[name]) if name in self else default


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Enter a function in the table under its MIL names."""

    def enter(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return enter


def last_axis_first(pads: Sequence[int]) -> list[int]:
    """MIL lists pads first axis first, torch last axis first."""
    pairs = [list(pads[i : i + 2]) for i in range(0, len(pads), 2)]
    return [pad for pair in reversed(pairs) for pad in pair]
