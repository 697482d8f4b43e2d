"""Operators that are short for arithmetic."""

import pytest
import torch
from of_function import Of

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.fused_arithmetic import WriteOutArithmetic
from pockethdr.export.static import standard_rewrites

FUSED = {"lerp", "addcmul", "addcdiv", "__and__", "__or__", "__xor__", "bitwise_and", "median"}
FUSED |= {"logit", "cosine_similarity"}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.lerp(x, x.flip(1), torch.sigmoid(x)),
        lambda x: torch.lerp(x, x.flip(1), 0.3),
        lambda x: torch.addcmul(x, x, x.flip(1), value=0.5),
        lambda x: torch.addcmul(x, x, x.flip(1)),
        lambda x: torch.addcdiv(x, x, x.abs() + 1, value=2),
        lambda x: torch.where((x > 0.1) & (x < 0.5), x, -x),
        lambda x: torch.where((x < 0.1) | (x > 0.5), x, -x),
        lambda x: torch.where((x < 0.1) ^ (x < 0.5), x, -x),
        lambda x: torch.where(torch.bitwise_and(x > 0.1, x < 0.5), x, -x),
        lambda x: torch.median(torch.stack([x, x.flip(1), x.flip(2)]), 0).values,
        lambda x: torch.logit(torch.sigmoid(x)),
        lambda x: torch.logit(x, 0.1),
        lambda x: torch.cosine_similarity(x, x.flip(1), 1, eps=0.5),
        lambda x: x[:, :3].median(1, keepdim=True)[0],
        lambda x: x[..., :3].median(-1)[0],
    ],
)
def test_is_exact(prove, function) -> None:
    done = prove(Of(function), WriteOutArithmetic(), shape=(2, 4, 8, 8))
    assert len(done.proofs) == 1
    assert not {f"aten.{name}" for name in FUSED} & {
        ".".join(name.split(".")[:2]) for name in op_counts(done.program)
    }


def test_other_medians_and_integers_stay(prove) -> None:
    assert not prove(Of(lambda x: x.median(1)[0]), WriteOutArithmetic()).proofs
    integers = Of(lambda x: x * ((x * 8).int() & (x * 3).int()))
    done = prove(integers, WriteOutArithmetic())
    assert done.refusals[0].reason == "it is of integers, not of truth values"


def test_kernels_are_written_out_before_they_are_made_static() -> None:
    names = [rewrite.name for rewrite in standard_rewrites()]
    assert names.index("fused_arithmetic") < names.index("lowrank")


def test_conversions_do_not_insist_on_the_precision_of_their_trace(prove) -> None:
    assert prove(Of(lambda x: torch.addcmul(x, x, (x * 4).long())), WriteOutArithmetic()).proofs
