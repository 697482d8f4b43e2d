"""Each file holds the integers and scales that were imposed on it, and a foreign one is seen."""

import copy
import json
from pathlib import Path

import export_toy as nets
import pytest
from broken_program import with_biases_off, with_one_weight_off, with_scaled_activations
from torch import fx

from pockethdr.errors import Unavailable
from pockethdr.export import read_back
from pockethdr.export.aten import Conv, is_conv
from pockethdr.export.imposed import (
    Given,
    RangesError,
    given_of_program,
    imposed,
    imposed_in,
)
from pockethdr.export.manifest import Artifact
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.rewrite import constant_of
from pockethdr.export.targets import TARGETS

READABLE = ["onnx", "tflite", "coreml"]


def toy_for(name: str, recipe: str = "hdr-ends") -> fx.GraphModule:
    program = nets.toy(end="transposed")
    ranges = nets.ranges_of(program)
    return quantized(program, ranges, RECIPES[recipe], TARGETS[name].scheme).program


def built(program: fx.GraphModule, name: str, folder: Path) -> Path:
    path = folder / f"toy{TARGETS[name].suffix}"
    TARGETS[name].build(program, nets.frames(), "int8", path)
    return path


@pytest.mark.parametrize("name", READABLE)
def test_every_code_and_kernel_in_the_file_is_ours(name: str, tmp_path: Path) -> None:
    program = toy_for(name)
    given = given_of_program(program, name)
    assert len(given.kernels) == 9
    found = imposed([built(program, name, tmp_path)], name, given)
    assert found.foreign == ()
    assert found.ours > 8 + len(given.kernels)
    assert Given.from_json(json.loads(json.dumps(given.to_json()))) == given


@pytest.mark.parametrize("name", READABLE)
def test_what_a_converter_changes_is_foreign(name: str, tmp_path: Path) -> None:
    """Scales of weights are off in `test_report_gates`."""
    program = toy_for(name)
    broken = with_one_weight_off(with_biases_off(with_scaled_activations(program, 1.02)))
    found = imposed([built(broken, name, tmp_path)], name, given_of_program(program, name))
    for part, least in {"scale and zero-point": 9, "reads": 8, "bias": 6, "weights": 1}.items():
        assert len([sentence for sentence in found.foreign if part in sentence]) >= least, part


def test_what_litert_makes_integer_by_itself_is_known(tmp_path: Path) -> None:
    """A transposed convolution between pairs, which is float in the program."""
    program = toy_for("tflite", "full")
    file = built(program, "tflite", tmp_path)
    assert imposed([file], "tflite", given_of_program(program, "tflite")).foreign == ()
    other = copy.deepcopy(program)
    (up,) = (c for n in other.graph.nodes if is_conv(n) and (c := Conv(n)).transposed)
    weight = constant_of(up.weight, other)
    assert weight is not None
    weight.data *= 1.02
    (sentence,) = imposed([file], "tflite", given_of_program(other, "tflite")).foreign
    assert "scales" in sentence


def test_a_plan_cannot_be_read_back(tmp_path: Path) -> None:
    with pytest.raises(RangesError, match="tensorrt files hold no ranges"):
        imposed([tmp_path / "a.plan"], "tensorrt", Given(frozenset(), ()))


def test_without_the_reader_of_a_format_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: Path) -> None:
        raise ModuleNotFoundError("gone", name="onnx")

    monkeypatch.setitem(read_back.READERS, "onnx", missing)
    given = Given(frozenset(), ()).to_json()
    with pytest.raises(Unavailable) as refused:
        imposed_in(tmp_path, Artifact("onnx", "int8", "a.onnx", checks={"given": given}))
    assert "onnx is not installed" in refused.value.reason
    assert imposed_in(tmp_path, Artifact("onnx", "fp32", "a.onnx")) is None
