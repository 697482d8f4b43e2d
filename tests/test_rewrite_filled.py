"""Tensors of one value, against that value."""

import pytest
import torch
from of_function import Of

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.filled import ShrinkFilled


def stored(done) -> int:
    return sum(buffer.numel() for buffer in done.program.buffers())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(x > 0.5, x, torch.zeros_like(x)),
        lambda x: torch.maximum(x, torch.full_like(x, 0.3)),
        lambda x: x * x.new_full(x.shape, 0.25) + torch.full((1, 4, 8, 8), 0.5),
        lambda x: torch.ones_like(x) - x,
    ],
)
def test_arithmetic_spreads_one_value(prove, function) -> None:
    done = prove(Of(function), ShrinkFilled(), shape=(1, 4, 8, 8))
    assert done.proofs
    assert stored(done) <= 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (torch.zeros_like(x) + x).sigmoid(),
        lambda x: (x - torch.zeros_like(x)).sigmoid(),
        lambda x: (x * torch.ones_like(x)).sigmoid(),
        lambda x: (x / torch.full_like(x, 1.0)).sigmoid(),
        lambda x: (torch.zeros_like(x[:, :1]).repeat(1, 4, 1, 1) + x).sigmoid(),
        lambda x: (torch.ones(8)[:, None].expand(8, 8) * x).sigmoid(),
    ],
)
def test_arithmetic_that_changes_nothing_goes(prove, function) -> None:
    done = prove(Of(function), ShrinkFilled(), shape=(1, 4, 8, 8))
    assert set(op_counts(done.program)) == {"aten.sigmoid"}


def test_what_gives_the_shape_keeps_it(prove) -> None:
    small = Of(lambda x: x[:, :1, :1, :1] + torch.zeros_like(x))
    assert "aten.full" in op_counts(prove(small, ShrinkFilled(), shape=(1, 4, 8, 8)).program)
    joined = Of(lambda x: torch.cat([x, torch.ones_like(x)], 1))
    done = prove(joined, ShrinkFilled(), shape=(1, 4, 8, 8))
    assert op_counts(done.program) == {"aten.full": 1, "aten.cat": 1}


def test_zero_over_a_value_is_not_that_value(prove) -> None:
    """Only the second operand of a difference or quotient may be neutral."""
    for function in (lambda x: torch.zeros_like(x) - x, lambda x: torch.ones_like(x) / (x + 1)):
        done = prove(Of(function), ShrinkFilled(), shape=(1, 4, 8, 8))
        assert {"aten.sub", "aten.div"} & {n.rsplit(".", 1)[0] for n in op_counts(done.program)}
