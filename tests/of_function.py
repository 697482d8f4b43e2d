"""A module of one function, for the tests of rewrites."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Of(nn.Module):
    """forward(x) = function(x)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
