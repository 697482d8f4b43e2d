"""Which convolutions of a written file are its last: those that dynint8 leaves float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Step(NamedTuple):
    """One operation of a file, and the tensors that it reads and writes, by name or number."""

    is_convolution: bool
    reads: Sequence[str | int]
    writes: Sequence[str | int]


def last_convolutions(steps: Sequence[Step]) -> set[int]:
    """Positions of the convolutions whose results no other one sees, even through other steps.

    Args:
        steps: in the order in which they run.
    """
    seen: set[str | int] = set()  # by a convolution
    last = set()
    for position in reversed(range(len(steps))):
        step = steps[position]
        is_seen = not seen.isdisjoint(step.writes)
        if step.is_convolution and not is_seen:
            last.add(position)
        if step.is_convolution or is_seen:
            seen.update(step.reads)
    return last
