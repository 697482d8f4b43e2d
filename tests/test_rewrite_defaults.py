"""Every target has its list of rewrites, and each list keeps a small network exact."""

import pytest
from torch import nn

from pockethdr.errors import PocketError
from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites import default_rewrites
from pockethdr.export.targets import TARGETS


class Small(nn.Sequential):
    """Something for most rewrites to do."""

    def __init__(self) -> None:
        super().__init__(
            nn.PixelUnshuffle(2),
            nn.Conv2d(16, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Dropout(),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
            nn.Conv2d(8, 8, 1),
            nn.ConvTranspose2d(8, 4, 5, 2, padding=2, output_padding=1),
        )


@pytest.mark.parametrize("target", TARGETS)
def test_defaults_are_exact(prove, target) -> None:
    done = prove(Small(), *default_rewrites(target))
    counts = op_counts(done.program)
    assert "aten.pixel_unshuffle" not in counts
    assert not any("norm" in op or "dropout" in op for op in counts)
    assert {"batch_norm", "merge_pointwise", "unshuffle_conv"} <= {p.rewrite for p in done.proofs}


def test_litert_gets_no_transposed_convolution(prove) -> None:
    done = prove(Small(), *default_rewrites("tflite"))
    assert "aten.conv_transpose2d.input" not in op_counts(done.program)


def test_an_unknown_target_says_so() -> None:
    with pytest.raises(PocketError, match="`vulkan`"):
        default_rewrites("vulkan")
