"""The ranges in each file are those that were given to its converter, and a foreign one is seen."""

from dataclasses import replace
from pathlib import Path

import export_toy as nets
import pytest

from pockethdr.export.imposed import RangesError, imposed
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import TARGETS

HDR = RECIPES["hdr-ends"]


@pytest.mark.parametrize("name", ["onnx", "tflite", "coreml"])
def test_only_our_ranges_are_in_the_file(name: str, tmp_path: Path) -> None:
    target, program = TARGETS[name], nets.toy()
    ranges = nets.ranges_of(program)
    made = quantized(program, ranges, HDR, target.scheme).program
    path = tmp_path / f"toy{target.suffix}"
    target.build(made, nets.frames(), "int8", path)
    found = imposed(path, name, made)
    assert found.ours > 8
    assert found.foreign == ()
    stale = quantized(program, ranges, replace(HDR, margin=1.02), target.scheme).program
    assert len(imposed(path, name, stale).foreign) > 8


def test_a_plan_cannot_be_read_back(tmp_path: Path) -> None:
    with pytest.raises(RangesError, match="tensorrt files hold no ranges"):
        imposed(tmp_path / "a.plan", "tensorrt", nets.toy())
