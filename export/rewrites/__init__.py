"""Exact graph rewrites, one file each: pattern, check, rewrite."""

from __future__ import annotations

from collections.abc import Callable

from pockethdr.errors import PocketError
from pockethdr.export.rewrite import Rewrite
from pockethdr.export.rewrites.adaptive_pool import FixAdaptivePool
from pockethdr.export.rewrites.batch_norm import FoldBatchNorm
from pockethdr.export.rewrites.conv_shuffle import MergeConvShuffle
from pockethdr.export.rewrites.explicit_padding import ExplicitPadding
from pockethdr.export.rewrites.fold_constants import FoldConstants
from pockethdr.export.rewrites.identities import RemoveIdentities
from pockethdr.export.rewrites.leaky_relu import ExpandLeakyRelu
from pockethdr.export.rewrites.merge_pointwise import MergePointwise
from pockethdr.export.rewrites.polyphase import PolyphaseDilated
from pockethdr.export.rewrites.rank import ReduceRank
from pockethdr.export.rewrites.reflect_pad import ExpandReflectPad
from pockethdr.export.rewrites.strided import UnshuffleStridedConv
from pockethdr.export.rewrites.transposed import ShuffleTransposedConv
from pockethdr.export.rewrites.unshuffle_conv import MergeUnshuffleConv

__all__ = [
    "ExpandLeakyRelu",
    "ExpandReflectPad",
    "ExplicitPadding",
    "FixAdaptivePool",
    "FoldBatchNorm",
    "FoldConstants",
    "MergeConvShuffle",
    "MergePointwise",
    "MergeUnshuffleConv",
    "PolyphaseDilated",
    "ReduceRank",
    "RemoveIdentities",
    "ShuffleTransposedConv",
    "UnshuffleStridedConv",
    "default_rewrites",
]


def default_rewrites(target: str) -> list[Rewrite]:
    """The rewrites that `target` gains from, in order; low-rank expansion goes in front of them.

    Why each target gets its layout: docs/decisions/004-layout-rewrites-per-target.md.

    Args:
        target: a name of `export.targets.TARGETS`.

    Raises:
        PocketError: the target is unknown.
    """
    if target not in _LAYOUTS:
        raise PocketError(
            f"no rewrites are chosen for target `{target}`",
            expected=f"one of {', '.join(_LAYOUTS)}",
            fix="add its row to export/rewrites/__init__.py",
        )
    return [
        ExplicitPadding(),
        RemoveIdentities(),
        ReduceRank(),
        FoldConstants(),
        FoldBatchNorm(),
        FixAdaptivePool(),
        RemoveIdentities(),
        MergePointwise(),
        *(make() for make in _LAYOUTS[target]),
    ]


_LAYOUTS: dict[str, tuple[Callable[[], Rewrite], ...]] = {
    "onnx": (MergeUnshuffleConv,),
    "tflite": (
        MergeUnshuffleConv,
        lambda: ShuffleTransposedConv(keep_disjoint=True),
        ExpandReflectPad,
    ),
    "coreml": (MergeUnshuffleConv, ExpandReflectPad),
    "tensorrt": (MergeUnshuffleConv,),
}
