"""What becomes integer, which scales are shared, and what the pairs compute."""

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import export_toy as nets
import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from pockethdr.export.kernels import int8_mac_share
from pockethdr.export.qparams import RangeError
from pockethdr.export.quantize import Quantized, quantized
from pockethdr.export.recipe import RECIPES, Recipe
from pockethdr.export.scheme import Scheme
from pockethdr.export.targets import COREML_INT8, LITERT_INT8, ONNX_INT8, TARGETS, TENSORRT_INT8
from pockethdr.export.trace import traced
from pockethdr.runtime.runner import open_runner

HDR = RECIPES["hdr-ends"]
SCHEMES = [LITERT_INT8, COREML_INT8, ONNX_INT8, TENSORRT_INT8]


def _quantized(scheme: Scheme, recipe: Recipe = HDR, **options: Any) -> Quantized:
    program = nets.toy(**options)
    return quantized(program, nets.ranges_of(program), recipe, scheme)


def _calls(program: fx.GraphModule, name: str) -> list[fx.Node]:
    return [n for n in program.graph.nodes if name in str(n.target)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_the_pairs_cost_little(scheme: Scheme) -> None:
    program, frames = nets.toy(), nets.frames()
    done = quantized(program, nets.ranges_of(program), HDR, scheme)
    assert 35 < nets.psnr(nets.run(done.program, frames), nets.run(program, frames)) < 150


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_a_wrong_range_is_seen(scheme: Scheme) -> None:
    program, frames = nets.toy(), nets.frames()
    ranges, expected = nets.ranges_of(program), nets.run(program, frames)
    right = nets.run(quantized(program, ranges, HDR, scheme).program, frames)
    wrong = {**ranges, "relu_5": tuple(v / 1.5 for v in ranges["relu_5"])}
    broken = nets.run(quantized(program, wrong, HDR, scheme).program, frames)
    assert nets.psnr(broken, expected) < nets.psnr(right, expected) - 3


def test_the_ends_stay_float_and_say_why() -> None:
    done = _quantized(LITERT_INT8)
    reasons = Counter(done.floats.values())
    assert reasons["recipe: at the inputs"] == 3
    assert reasons["recipe: at the output"] == 3
    assert reasons["reads only float values"] == 3
    assert set(reasons) == {
        "recipe: at the inputs",
        "recipe: at the output",
        "reads only float values",
    }
    assert 0.5 < int8_mac_share(done.program) < 0.9


def test_everything_can_be_integer() -> None:
    done = _quantized(LITERT_INT8, RECIPES["full"])
    assert (done.floats, int8_mac_share(done.program)) == ({}, 1.0)


def test_pooled_context_stays_float() -> None:
    floats = _quantized(LITERT_INT8, phi="global").floats
    context = [name for name, reason in floats.items() if "context" in reason]
    assert {"mean", "tanh"} <= set(context)


def test_patterns_keep_what_they_match_float() -> None:
    recipe = replace(HDR, float_nodes=("aten.add", "fuse", "conv2d_4*"))
    floats = _quantized(LITERT_INT8, recipe).floats
    matched = [reason for reason in floats.values() if "matches" in reason]
    assert set(matched) == {f"recipe: matches `{p}`" for p in recipe.float_nodes}
    assert len(matched) == 5


def test_a_computed_weight_and_a_grouped_transposed_convolution_stay_float() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
            self.grouped = nn.ConvTranspose2d(4, 4, 2, groups=2)

        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            x = self.first(a)
            x = nn.functional.conv2d(x, b[:, :, :3, :3].expand(4, 4, 3, 3))
            return self.last(self.grouped(x) + c.mean())

    program = traced(Odd(), nets.frames())
    floats = quantized(program, nets.ranges_of(program), HDR, ONNX_INT8).floats
    assert "its weight is computed at run time" in floats.values()
    assert any("no per-channel weight axis" in reason for reason in floats.values())


def test_a_missing_range_is_named() -> None:
    program = nets.toy()
    ranges = dict(nets.ranges_of(program))
    del ranges["mul"]
    with pytest.raises(RangeError, match=r"no calibrated range for `mul`"):
        quantized(program, ranges, HDR, LITERT_INT8)
    with pytest.raises(RangeError, match="range of `mul` is"):
        quantized(program, {**ranges, "mul": (0.0, float("nan"))}, HDR, LITERT_INT8)


def test_a_value_is_quantized_once_for_each_range() -> None:
    for scheme in SCHEMES:
        program = _quantized(scheme).program
        pairs = [(n.args[0], *n.args[1:3]) for n in _calls(program, "quantize_per_tensor")]
        stored = [pair for pair in pairs if "quantize" not in str(pair[0])]
        assert len(stored) == len(set(stored))


def test_concatenated_values_share_one_scale() -> None:
    for cat in _calls(_quantized(LITERT_INT8).program, "aten.cat"):
        scales = {n.args[1:3] for n in cat.all_input_nodes}
        scales |= {n.args[1:3] for n in cat.users}
        assert len(scales) == 1


def test_no_rounding_lies_between_a_convolution_and_its_relu() -> None:
    program = _quantized(LITERT_INT8).program
    for relu in _calls(program, "aten.relu"):
        assert "conv2d" in str(relu.args[0].target)


def test_tanh_has_the_scale_of_its_kernel() -> None:
    (tanh,) = _calls(_quantized(LITERT_INT8).program, "aten.tanh")
    (stored,) = tanh.users
    assert stored.args[1:3] == (1 / 128, 0)


def test_skips_read_the_float_tensor_where_only_convolution_inputs_are_integer() -> None:
    program = _quantized(TENSORRT_INT8).program
    for node in _calls(program, "aten.add") + _calls(program, "aten.cat"):
        assert not any("dequantize" in str(n.target) for n in node.all_input_nodes)
    integer = [n for n in _calls(program, "aten.conv2d") if "dequantize" in str(n.args[1].target)]
    assert all("dequantize_per_tensor" in str(n.args[0].target) for n in integer)
    assert len(integer) == 8


def test_folded_weights_are_int8_buffers() -> None:
    folded = _quantized(COREML_INT8).program.state_dict()
    unfolded = _quantized(LITERT_INT8).program.state_dict()
    assert sum(v.dtype == torch.int8 for v in folded.values()) == 8
    assert not any(v.dtype == torch.int8 for v in unfolded.values())


def test_the_weight_axis_is_the_output_channel() -> None:
    done = _quantized(ONNX_INT8, end="transposed")
    axes = {
        str(user.target).split(".")[1]: node.args[3]
        for node in _calls(done.program, "dequantize_per_channel")
        for user in node.users
    }
    assert axes == {"conv2d": 0, "conv_transpose2d": 1}
    reasons = _quantized(LITERT_INT8, end="transposed").floats.values()
    assert any("no integer transposed convolution" in reason for reason in reasons)


def test_the_given_program_is_left_alone() -> None:
    program = nets.toy()
    code = program.code
    quantized(program, nets.ranges_of(program), HDR, COREML_INT8)
    assert program.code == code


class _Joined(nn.Module):
    """A dark stream out of integers and a bright one out of floats, joined and activated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.last = (
            nn.Conv2d(i, o, 3, padding=1) for i, o in ((4, 8), (8, 8), (16, 8), (8, 4))
        )
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        bright = self.first(short + mid + long)
        dark = self.second(torch.relu(bright))
        return self.last(self.third(torch.relu(torch.cat([dark, bright], 1))))


@cache
def _joined() -> fx.GraphModule:
    torch.manual_seed(0)
    return traced(_Joined(), nets.frames())


@pytest.mark.parametrize("float_joins", [True, False])
def test_litert_gets_no_float_join_beside_integers(float_joins: bool, tmp_path: Path) -> None:
    """Given one, its converter takes the dark operand's scale, and clips the bright one."""
    pytest.importorskip("litert_torch")
    program, recipe = _joined(), replace(RECIPES["hdr-ends"], float_nodes=("aten.cat",))
    scheme = replace(LITERT_INT8, float_joins=float_joins)
    done = quantized(program, nets.ranges_of(program), recipe, scheme)
    assert ("cat" in done.floats) == float_joins
    path, pairs = tmp_path / "joined.tflite", nets.run(done.program, nets.frames())
    TARGETS["tflite"].build(done.program, nets.frames(), "int8", path)
    runner = open_runner(path, "tflite", threads=1)
    output = runner.run(tuple(np.asarray(frame) for frame in nets.frames()))
    runner.close()
    error = nets.psnr(output, pairs) + 10 * float(np.log10(pairs.var()))
    assert error < 15 if float_joins else error > 40


def test_moves_run_on_what_they_move() -> None:
    """Slices and reshapes of integers are integers, whatever a recipe says of concatenations."""

    class Moved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

        def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
            x = self.b(self.a(short + mid + long))
            x = torch.cat([x[..., 1:2], x, x[..., -2:-1]], 3)
            return self.c(x.flatten(2).unflatten(2, (x.shape[2], -1)))

    program = traced(Moved(), nets.frames())
    recipe = replace(RECIPES["hdr-ends"], float_nodes=("aten.cat",))
    done = quantized(program, nets.ranges_of(program), recipe, ONNX_INT8)
    moves = ("slice", "cat", "view", "reshape")
    assert not [name for name in done.floats if name.startswith(moves)]
    moved = [n for n in done.program.graph.nodes if n.name.startswith(moves)]
    assert len(moved) >= 4
    assert all("dequantize" in source.name for n in moved for source in n.all_input_nodes)


class _Padded(nn.Module):
    """Features behind a frame of zeros, which are folded to a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(10, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = 5 * torch.relu(self.first(short + mid + long))
        nothing = torch.zeros(1, 2, *x.shape[2:])
        return torch.sigmoid(self.last(torch.cat([nothing, x], 1)))


def test_a_constant_has_the_scale_of_what_it_is_joined_to(tmp_path: Path) -> None:
    """LiteRT's converter gives a join the scale of its first operand."""
    pytest.importorskip("litert_torch")
    torch.manual_seed(0)
    program, frames = nets.static(_Padded()), nets.frames()
    done = quantized(program, nets.ranges_of(program), HDR, LITERT_INT8)
    (join,) = _calls(done.program, "cat.default")
    assert len({node.args[1:3] for node in join.all_input_nodes}) == 1
    TARGETS["tflite"].build(done.program, frames, "int8", tmp_path / "padded.tflite")
    runner = open_runner(tmp_path / "padded.tflite", "tflite", threads=1)
    output = runner.run(tuple(np.asarray(frame) for frame in frames))
    runner.close()
    assert nets.psnr(output, nets.run(program, frames)) > 45


def test_a_constant_beside_a_tanh_is_not_clipped_to_it() -> None:
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
            self.register_buffer("places", torch.linspace(0, 3, 2)[None, :, None, None])

        def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
            x = torch.tanh(self.first(short + mid + long))
            places = self.places.expand(1, 2, *x.shape[2:]) * 1.0
            return torch.sigmoid(self.last(torch.cat([places, x], 1)))

    torch.manual_seed(0)
    program, frames = nets.static(Placed()), nets.frames()
    for scheme in SCHEMES:
        for recipe in (HDR, RECIPES["full"]):
            done = quantized(program, nets.ranges_of(program), recipe, scheme)
            assert nets.psnr(nets.run(done.program, frames), nets.run(program, frames)) > 45
