"""Slices that are written, against the concatenation that they become."""

import pytest
import torch
from of_function import Of

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.fused_arithmetic import WriteOutArithmetic
from pockethdr.export.rewrites.written_slices import ConcatWrittenSlices


def halves(x):
    y = torch.zeros_like(x)
    y[:, :2] = x[:, 2:]
    y[:, 2:] = x[:, :2] * 2
    return y


def overwritten(x):
    y = x.clone()
    y[:, 1:3] = x[:, :2] + 1
    y[:, 2:] = x[:, 1:3] * 3
    y[:, -1] = x[:, 0]
    return y


def framed(x):
    y = torch.ones(1, 4, 10, 12)
    y[..., 1:-1, 2:-2] = x
    return y


def one_value(x):
    y = x.clone()
    y[:, 1:3] = 0.5
    return y


@pytest.mark.parametrize(
    ("function", "parts"),
    [(halves, 2), (overwritten, 4), (framed, None), (one_value, 3)],
)
def test_is_exact(prove, function, parts: int | None) -> None:
    done = prove(Of(function), WriteOutArithmetic(), ConcatWrittenSlices(), shape=(1, 4, 8, 8))
    assert done.proofs
    left = op_counts(done.program)
    assert not [name for name in left if "scatter" in name or name == "aten.copy"]
    if parts is not None:
        (joined,) = done.program.graph.find_nodes(
            op="call_function", target=torch.ops.aten.cat.default
        )
        assert len(joined.args[0]) == parts


def test_a_tensor_written_whole_is_what_was_written(prove) -> None:
    done = prove(Of(halves), WriteOutArithmetic(), ConcatWrittenSlices(), shape=(1, 4, 8, 8))
    assert "aten.zeros_like" not in op_counts(done.program)


def test_every_second_place_stays(prove) -> None:
    def strided(x):
        y = torch.zeros_like(x)
        y[:, ::2] = x[:, :2]
        return y

    done = prove(Of(strided), ConcatWrittenSlices(), shape=(1, 4, 8, 8))
    assert "aten.slice_scatter" in op_counts(done.program)
    assert done.refusals[0].reason == "it writes every so many places, not a slice"


def test_slices_below_every_second_place_are_concatenated(prove) -> None:
    def both(x):
        y = torch.zeros_like(x)
        y[:, :2] = x[:, 2:]
        y[:, ::2] = x[:, :2]
        return y

    done = prove(Of(both), WriteOutArithmetic(), ConcatWrittenSlices(), shape=(1, 4, 8, 8))
    counts = op_counts(done.program)
    assert (counts["aten.slice_scatter"], counts["aten.cat"]) == (1, 1)
