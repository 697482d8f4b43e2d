"""Exact graph rewrites, one file each: pattern, check, rewrite.

`default_rewrites` are those behind the low-rank expansion; `static.standard_rewrites` is the whole
list. Four more are exact and proved, and not in it: they were no faster in the runtimes that were
measured, and wait for one in which they are. `benchmarks/rewrites.py` measures `MergeConvShuffle`,
`PolyphaseDilated`, `UnshuffleStridedConv` and `ExpandLeakyRelu`.
"""

from __future__ import annotations

from pockethdr.export.rewrite import Rewrite
from pockethdr.export.rewrites.activation_before_cat import ActivateBeforeCat
from pockethdr.export.rewrites.adaptive_pool import FixAdaptivePool
from pockethdr.export.rewrites.batch_norm import FoldBatchNorm
from pockethdr.export.rewrites.bias_of_sum import AddIntoBias
from pockethdr.export.rewrites.conv_shuffle import MergeConvShuffle
from pockethdr.export.rewrites.explicit_padding import ExplicitPadding
from pockethdr.export.rewrites.filled import ShrinkFilled
from pockethdr.export.rewrites.fold_constants import FoldConstants
from pockethdr.export.rewrites.fused_arithmetic import WriteOutArithmetic
from pockethdr.export.rewrites.identities import RemoveIdentities
from pockethdr.export.rewrites.image_norm import ExpandImageNorm
from pockethdr.export.rewrites.late_views import ViewLater
from pockethdr.export.rewrites.leaky_relu import ExpandLeakyRelu
from pockethdr.export.rewrites.matrix_resize import ResizeByMatrix
from pockethdr.export.rewrites.merge_duplicates import MergeDuplicates
from pockethdr.export.rewrites.merge_pointwise import MergePointwise
from pockethdr.export.rewrites.polyphase import PolyphaseDilated
from pockethdr.export.rewrites.rank import ReduceRank
from pockethdr.export.rewrites.reflect_pad import ExpandReflectPad
from pockethdr.export.rewrites.relu_of_leaky import ReluOfLeaky
from pockethdr.export.rewrites.repeats import WriteOutRepeats
from pockethdr.export.rewrites.strided import UnshuffleStridedConv
from pockethdr.export.rewrites.transposed import ShuffleTransposedConv
from pockethdr.export.rewrites.unfold import UnfoldByConvolution
from pockethdr.export.rewrites.unshuffle_conv import MergeUnshuffleConv
from pockethdr.export.rewrites.written_slices import ConcatWrittenSlices

__all__ = [
    "ActivateBeforeCat",
    "AddIntoBias",
    "ConcatWrittenSlices",
    "ExpandImageNorm",
    "ExpandLeakyRelu",
    "ExpandReflectPad",
    "ExplicitPadding",
    "FixAdaptivePool",
    "FoldBatchNorm",
    "FoldConstants",
    "MergeConvShuffle",
    "MergeDuplicates",
    "MergePointwise",
    "MergeUnshuffleConv",
    "PolyphaseDilated",
    "ReduceRank",
    "ReluOfLeaky",
    "RemoveIdentities",
    "ResizeByMatrix",
    "ShrinkFilled",
    "ShuffleTransposedConv",
    "UnfoldByConvolution",
    "UnshuffleStridedConv",
    "ViewLater",
    "WriteOutArithmetic",
    "WriteOutRepeats",
    "default_rewrites",
]


def default_rewrites() -> list[Rewrite]:
    """What every program goes through behind the low-rank expansion, in order.

    Paddings and identities come again since the expansion leaves some, and identities once more
    behind the layers that others are written out to. One list, since one calibration serves all
    targets; which layouts are in it, and what that costs which runtime:
    docs/decisions/004-layout-rewrites.md.
    """
    return [
        ExplicitPadding(),
        RemoveIdentities(),
        UnfoldByConvolution(),
        ViewLater(),
        WriteOutRepeats(),
        ReduceRank(),
        ExpandImageNorm(),
        ActivateBeforeCat(),
        FoldConstants(),
        FoldBatchNorm(),
        AddIntoBias(),
        FixAdaptivePool(),
        ResizeByMatrix(),
        RemoveIdentities(),
        MergePointwise(),
        MergeUnshuffleConv(),
        ShuffleTransposedConv(keep_disjoint=True),
        ExpandReflectPad(),
        MergeDuplicates(),
        ReluOfLeaky(),
    ]
