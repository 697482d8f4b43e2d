"""How a target wants its integers. Plain data, without torch: the table of targets holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Scheme:
    """How a target wants its integers.

    Attributes:
        name: for the manifest.
        placement: `body`, everything between the float ends is integer; `inputs`, only what
            convolutions read is quantised and skips read the float tensor (TensorRT's rule).
        symmetric: zero-point 0 for activations.
        fold_weights: weights are stored as int8 and a dequantize, rather than float and a pair.
        transposed: transposed convolutions are quantised too.
        float_joins: a concatenation may be float beside integers. LiteRT's converter gives it the
            scale of its first integer operand, and clips the others.
    """

    name: str
    placement: Literal["body", "inputs"]
    symmetric: bool
    fold_weights: bool
    transposed: bool = True
    float_joins: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
