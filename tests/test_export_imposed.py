"""Files hold the integers and scales that were imposed on them, all of them and no other."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import export_toy as nets
import pytest
import torch
from broken_program import (
    with_biases_off,
    with_convolution_float,
    with_one_weight_off,
    with_scaled_activations,
    without_pair_behind,
)
from torch import Tensor, fx, nn
from torch.nn import functional as F

from pockethdr.errors import Unavailable
from pockethdr.export import read_back, tflite
from pockethdr.export.aten import Conv, is_conv
from pockethdr.export.imposed import (
    Given,
    RangesError,
    given_of,
    imposed,
    imposed_in,
)
from pockethdr.export.kernels import int8_mac_share
from pockethdr.export.manifest import Artifact
from pockethdr.export.program import constant_of
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import TARGETS
from pockethdr.export.trace import traced

READABLE = ["onnx", "tflite", "coreml"]


def toy_for(name: str, recipe: str = "hdr-ends") -> fx.GraphModule:
    program = nets.toy(end="transposed")
    ranges = nets.ranges_of(program)
    return quantized(program, ranges, RECIPES[recipe], TARGETS[name].scheme).program


def built(program: fx.GraphModule, name: str, folder: Path) -> Path:
    path = folder / f"toy{TARGETS[name].suffix}"
    TARGETS[name].build(program, nets.frames(), "int8", path)
    return path


def with_up_off(program: fx.GraphModule) -> fx.GraphModule:
    """The weights of the transposed convolution 2 % larger."""
    program = copy.deepcopy(program)
    (up,) = (c for n in program.graph.nodes if is_conv(n) and (c := Conv(n)).transposed)
    weight = constant_of(up.weight, program)
    assert weight is not None
    weight.data *= 1.02
    return program


@pytest.mark.parametrize("name", READABLE)
def test_every_code_and_kernel_is_in_the_file_and_ours(name: str, tmp_path: Path) -> None:
    program = toy_for(name)
    given = given_of([program], name)
    assert len(given.kernels) == 9 - (name == "tflite")  # its converter leaves one float
    found = imposed([built(program, name, tmp_path)], name, given)
    assert (found.foreign, found.missing) == ((), ())
    assert found.ours > 8 + len(given.kernels)
    assert Given.from_json(json.loads(json.dumps(given.to_json()))) == given


@pytest.mark.parametrize("name", READABLE)
def test_what_a_converter_changes_is_foreign(name: str, tmp_path: Path) -> None:
    """Scales of weights are off in `test_report_gates`."""
    program = toy_for(name)
    broken = with_one_weight_off(with_biases_off(with_scaled_activations(program, 1.02)))
    found = imposed([built(broken, name, tmp_path)], name, given_of([program], name))
    for part, least in {"scale and zero-point": 9, "reads": 8, "bias": 6, "weights": 1}.items():
        assert len([sentence for sentence in found.foreign if part in sentence]) >= least, part


@pytest.mark.parametrize("name", READABLE)
def test_a_convolution_left_float_is_missing(name: str, tmp_path: Path) -> None:
    """Nothing in such a file is foreign."""
    program = toy_for(name)
    path = tmp_path / f"toy{TARGETS[name].suffix}"
    broken = with_convolution_float(program, "conv2d_5")
    checks = TARGETS[name].build(broken, nets.frames(), "int8", path)
    found = imposed([path], name, given_of([program], name))
    assert (found.foreign, found.missing) == ((), ("conv2d_5",))
    assert checks["int8_mac_share"] < int8_mac_share(program)


@pytest.mark.parametrize("name", READABLE)
def test_a_dropped_pair_is_missing(name: str, tmp_path: Path) -> None:
    program = toy_for(name)
    broken = without_pair_behind(program, "conv2d_10")  # of the residual block, read by its sum
    found = imposed([built(broken, name, tmp_path)], name, given_of([program], name))
    assert [sentence for sentence in found.missing if "scale and zero-point" in sentence]


def test_the_files_of_an_artifact_hold_it_together(tmp_path: Path) -> None:
    """As the context and the tiles of a network that is cut in two."""
    first, second = toy_for("onnx"), toy_for("onnx", "full")
    (tmp_path / "second").mkdir()
    files = [built(first, "onnx", tmp_path), built(second, "onnx", tmp_path / "second")]
    whole = given_of([first, second], "onnx")
    together = imposed(files, "onnx", whole)
    assert (together.foreign, together.missing) == ((), ())
    assert imposed(files[:1], "onnx", whole).missing


def test_nothing_at_all_is_not_what_was_given(tmp_path: Path) -> None:
    path = tmp_path / "toy.onnx"
    TARGETS["onnx"].build(nets.toy(end="transposed"), nets.frames(), "fp32", path)
    given = given_of([toy_for("onnx")], "onnx")
    found = imposed([path], "onnx", given)
    assert (found.ours, found.foreign) == (0, ())
    assert len(found.missing) == len(given.codes) + len(given.kernels)


class Upsampled(nn.Module):
    """A transposed convolution between two plain ones, and something behind it."""

    def __init__(self, behind: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.behind = behind
        self.down = nn.Conv2d(12, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.out = nn.LazyConv2d(4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = self.up(F.relu(self.down(torch.cat([short, mid, long], 1))))
        return torch.sigmoid(self.last(F.relu(self.out(self.behind(x)))))


@pytest.mark.parametrize(
    ("behind", "is_rounded"),
    [
        (lambda x: x, True),
        (lambda x: torch.cat([F.relu(x), x[:, :4]], 1), True),
        (lambda x: F.pixel_shuffle(x, 2), True),
        (lambda x: F.max_pool2d(x, 2), True),
        (F.relu6, False),
        (lambda x: torch.cat([F.relu(x), torch.tanh(x)], 1), False),
    ],
)
def test_litert_rounds_what_it_finds_between_pairs(
    behind: Callable[[Tensor], Tensor], is_rounded: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Upsampled(behind).eval()
    network(*nets.frames())
    plain = traced(network, nets.frames())
    scheme = TARGETS["tflite"].scheme
    program = quantized(plain, nets.ranges_of(plain), RECIPES["full"], scheme).program
    given = given_of([program], "tflite")
    assert ("conv_transpose2d" in [kernel.name for kernel in given.kernels]) == is_rounded
    file = built(program, "tflite", tmp_path)
    found = imposed([file], "tflite", given)
    assert (found.foreign, found.missing) == ((), ())
    broken = imposed([file], "tflite", given_of([with_up_off(program)], "tflite"))
    assert bool(broken.foreign) == is_rounded


def test_what_litert_makes_integer_by_itself_is_known(tmp_path: Path) -> None:
    """A transposed convolution between pairs, which is float in the program."""
    program = toy_for("tflite", "full")
    file, given = built(program, "tflite", tmp_path), given_of([program], "tflite")
    assert "conv_transpose2d" in [kernel.name for kernel in given.kernels]
    found = imposed([file], "tflite", given)
    assert (found.foreign, found.missing) == ((), ())
    (sentence,) = imposed([file], "tflite", given_of([with_up_off(program)], "tflite")).foreign
    assert "scales" in sentence


class Grouped(nn.Module):
    """A transposed convolution in groups, whose output is no multiple of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 3, 2, groups=2)
        self.last = nn.Conv2d(4, 4, 3)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return torch.sigmoid(self.last(torch.relu(self.up(self.down(short + mid + long)))))


def test_litert_leaves_transposed_convolutions_in_groups_float(tmp_path: Path) -> None:
    plain, scheme = nets.static(Grouped()), TARGETS["tflite"].scheme
    program = quantized(plain, nets.ranges_of(plain), RECIPES["full"], scheme).program
    given = given_of([program], "tflite")
    assert len(given.kernels) == 2
    found = imposed([built(program, "tflite", tmp_path)], "tflite", given)
    assert (found.foreign, found.missing) == ((), ())


def test_what_a_recipe_keeps_float_between_integers_stays_float(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteRT's converter, left alone, rounds it by itself."""
    plain = nets.toy()
    recipe = replace(RECIPES["full"], float_nodes=("conv2d_5",))
    program = quantized(plain, nets.ranges_of(plain), recipe, TARGETS["tflite"].scheme).program
    given = given_of([program], "tflite")
    assert "conv2d_5" not in [kernel.name for kernel in given.kernels]
    held = imposed([built(program, "tflite", tmp_path)], "tflite", given)
    assert (held.foreign, held.missing) == ((), ())
    monkeypatch.setattr(tflite, "held_float", lambda program: program)
    (tmp_path / "alone").mkdir()
    alone = imposed([built(program, "tflite", tmp_path / "alone")], "tflite", given)
    assert len(alone.foreign) == 1


def test_a_plan_cannot_be_read_back(tmp_path: Path) -> None:
    with pytest.raises(RangesError, match="tensorrt files cannot be read back"):
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
