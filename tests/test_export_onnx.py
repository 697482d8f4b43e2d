"""ONNX files, run by ONNX Runtime against the float program."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import export_toy as nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pockethdr.errors import PocketError
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import TARGETS, TargetError
from pockethdr.export.trace import traced
from pockethdr.runtime.runner import open_runner

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


TARGET = TARGETS["onnx"]


def _run(path: Path) -> np.ndarray:
    runner = open_runner(path, "onnx", threads=1)
    try:
        return runner.run(tuple(np.asarray(f) for f in nets.frames()))
    finally:
        runner.close()


def _program(precision: str, divided: float = 1.0):
    program = nets.toy()
    if precision != "int8":
        return program
    ranges = dict(nets.ranges_of(program))
    ranges["relu_5"] = tuple(v / divided for v in ranges["relu_5"])
    return quantized(program, ranges, RECIPES["hdr-ends"], TARGET.scheme).program


def test_fp16_keeps_float32_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    found = TARGET.build(nets.toy(), nets.frames(), "fp16", path)
    assert nets.psnr(_run(path), nets.run(nets.toy(), nets.frames())) >= 60
    assert found["ops"]["Conv"] == 12
    model = onnx.load(path)
    ends = [*model.graph.input, *model.graph.output]
    assert [end.name for end in ends] == ["short", "mid", "long", "hdr"]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    assert {i.data_type for i in model.graph.initializer} >= {onnx.TensorProto.FLOAT16}
    assert b"export_toy.py" not in path.read_bytes()


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return torch.sigmoid(self.conv((mid > 0.52).float()) + self.conv(short * long))


def test_fp16_converts_to_its_own_precision(tmp_path: Path) -> None:
    frames = [torch.randint(64, (1, 8, 16, 16)) / 64 for _ in range(3)]
    network = Masked().eval()
    TARGET.build(traced(network, frames), frames, "fp16", tmp_path / "masked.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "masked.onnx")
    feeds = {n.name: f.numpy() for n, f in zip(session.get_inputs(), frames, strict=True)}
    with torch.no_grad():
        expected = network(*frames)
    np.testing.assert_allclose(session.run(None, feeds)[0], expected, atol=2e-3)


def test_int8_runs_as_simulated_and_repeats(tmp_path: Path) -> None:
    program, expected = _program("int8"), nets.run(nets.toy(), nets.frames())
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    found = TARGET.build(program, nets.frames(), "int8", first)
    TARGET.build(program, nets.frames(), "int8", second)
    assert nets.psnr(_run(first), expected) >= 40
    assert nets.psnr(_run(first), nets.run(program, nets.frames())) > 55
    assert first.read_bytes() == second.read_bytes()
    assert {finding["rule"] for finding in found["lint"]} == {
        *("zero-point", "uint8", "shared skip")  # not for TensorRT
    }
    assert 0.5 < found["int8_mac_share"] < 0.8
    assert found["float_ops"] == {"Conv": 4, "DepthToSpace": 1, "Relu": 2, "Sigmoid": 1}


class Alike(nn.Module):
    """Two convolutions of one small weight, which the exporter merges."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(short + mid))) + long)


def test_every_integer_convolution_has_weights_of_its_own(tmp_path: Path) -> None:
    """ONNX Runtime's exact mode, where there is no VNNI, takes none that two share."""
    torch.manual_seed(0)
    program = traced(Alike().eval(), nets.frames())
    done = quantized(program, nets.ranges_of(program), RECIPES["full"], TARGET.scheme)
    TARGET.build(done.program, nets.frames(), "int8", tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    constants = {i.name for i in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    readers = Counter(name for node in graph.node for name in node.input)
    assert len(weights) == 2
    assert {readers[name] for w in weights for name in (w.input[0], w.input[2], *w.output)} == {1}
    assert nets.psnr(_run(tmp_path / "a.onnx"), nets.run(program, nets.frames())) >= 30


class Weighted(nn.Module):
    """Frames under weights that sum to one at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, *frames: Tensor) -> Tensor:
        weights = torch.stack([self.weigh(frame) for frame in frames], 1).softmax(1)
        return (torch.stack(frames, 1) * weights).sum(1)


def test_a_softmax_beyond_its_range_saturates(tmp_path: Path) -> None:
    """ONNX Runtime's integer one wraps around, to weights of zero for the largest."""
    torch.manual_seed(0)
    program = nets.static(Weighted())
    seen = nets.ranges_of(program)
    tight = {name: (low, 0.9 * high) for name, (low, high) in seen.items() if "view" in name}
    done = quantized(program, {**seen, **tight}, RECIPES["full"], TARGET.scheme)
    TARGET.build(done.program, nets.frames(), "int8", tmp_path / "a.onnx")
    assert nets.psnr(_run(tmp_path / "a.onnx"), nets.run(done.program, nets.frames())) > 60


def test_onnx_runtime_multiplies_integers_wherever_the_file_does(tmp_path: Path) -> None:
    """Int8 activations left half of the convolutions float: read by several, or behind a ReLU."""
    import onnxruntime

    path, seen = tmp_path / "a.onnx", tmp_path / "optimised.onnx"
    TARGET.build(_program("int8"), nets.frames(), "int8", path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(seen)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ours, theirs = onnx.load(path).graph, onnx.load(seen).graph
    makers = {node.output[0]: node.op_type for node in ours.node}
    convs = [node for node in ours.node if node.op_type == "Conv"]
    integer = [node for node in convs if makers.get(node.input[1]) == "DequantizeLinear"]
    assert len(integer) == 8
    assert sum(node.op_type == "QLinearConv" for node in theirs.node) == len(integer)


def test_constants_that_are_quantised_in_the_file_change_with_the_rest() -> None:
    """Φ's mean over the image is added to one: ONNX keeps it float behind a pair of its own."""
    import onnxruntime
    from onnx import helper, numpy_helper

    from pockethdr.export.unsigned import unsigned

    nodes = [
        node
        for name in ("x", "c")
        for node in (
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_d"]),
        )
    ]
    nodes.append(helper.make_node("Add", ["x_d", "c_d"], ["y"]))
    constants = {
        "scale": np.float32(0.1), "zero": np.int8(-28), "c": np.float32([0.52, -9, 3])
    }  # fmt: skip
    shape, kinds = [2, 3], onnx.TensorProto
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", kinds.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kinds.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        value_info=[
            helper.make_tensor_value_info("x_q", kinds.INT8, shape),
            helper.make_tensor_value_info("c_q", kinds.INT8, [3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    def run(model: Any) -> np.ndarray:
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return session.run(None, {"x": x})[0]

    x = np.float32([[-11, -0.26, 0.31], [4, 15.4, 90]])
    assert np.array_equal(run(unsigned(model)), run(model))
    codes = {v.name: v.type.tensor_type.elem_type for v in unsigned(model).graph.value_info}
    assert codes == {"x_q": kinds.UINT8, "c_q": kinds.UINT8}


def test_a_maximum_of_codes_is_the_relu_of_what_they_stand_for(tmp_path: Path) -> None:
    """Where a range begins below zero, so that the quantize does not clamp by itself."""
    program = nets.toy()
    ranges = {name: (min(low, -0.5), high) for name, (low, high) in nets.ranges_of(program).items()}
    done = quantized(program, ranges, RECIPES["hdr-ends"], TARGET.scheme).program
    found = TARGET.build(done, nets.frames(), "int8", tmp_path / "a.onnx")
    assert found["ops"]["Clip"] == 5
    assert nets.psnr(_run(tmp_path / "a.onnx"), nets.run(done, nets.frames())) > 55


def test_a_wrong_scale_fails(tmp_path: Path) -> None:
    expected = nets.run(nets.toy(), nets.frames())
    right = nets.psnr(nets.run(_program("int8"), nets.frames()), expected)
    TARGET.build(_program("int8", 1.5), nets.frames(), "int8", tmp_path / "wrong.onnx")
    assert nets.psnr(_run(tmp_path / "wrong.onnx"), expected) < right - 5


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(PocketError, match="exists"):
        TARGET.build(_program("fp32"), nets.frames(), "fp32", path)
    assert path.read_bytes() == b"mine"
    with pytest.raises(TargetError, match="no int4"):
        TARGET.build(_program("fp32"), nets.frames(), "int4", path)


class Merged(nn.Module):
    """A weighted mean whose weights are zero everywhere, kept from 0 / 0 by a little."""

    def __init__(self, by_buffer: bool) -> None:
        super().__init__()
        self.by_buffer = by_buffer
        self.register_buffer("little", torch.tensor(1e-8))

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        weights = [torch.relu(frame - 2) for frame in (short, mid, long)]
        total = sum(weights) + (self.little if self.by_buffer else 1e-8)
        seen = sum(w * f for w, f in zip(weights, (short, mid, long), strict=True)) / total
        return seen + torch.nn.functional.normalize(seen, dim=1) + mid


@pytest.mark.parametrize("by_buffer", [True, False])
def test_what_keeps_a_denominator_from_zero_is_not_rounded_to_it(
    by_buffer: bool, tmp_path: Path
) -> None:
    program = nets.static(Merged(by_buffer))
    TARGET.build(program, nets.frames(), "fp16", tmp_path / "a.onnx")
    assert nets.psnr(_run(tmp_path / "a.onnx"), nets.run(program, nets.frames())) > 60


class MaskedSoftmax(nn.Module):
    """A softmax over the frames, in front of which what is clipped is masked by a large number.

    Where all are clipped, they count alike.
    """

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("large", torch.full((1, 3, 1, 1, 1), -1e9))

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        frames = torch.stack([short, mid, long], 1)
        clipped = ((frames > 0.98) | (mid > 0.9)[:, None]).float()
        large = {"buffer": self.large, "float": -1e9, "int": -(10**9)}[self.how]
        weights = torch.softmax(clipped * large, 1)
        return (weights * frames).sum(1)


class MaskedWhole(MaskedSoftmax):
    """The same with whole numbers beyond float16, by what else takes them for values."""

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        frames = torch.stack([short, mid, long], 1)
        clipped = (frames > 0.98) | (mid > 0.9)[:, None]
        scores = {
            "masked_fill": lambda: torch.zeros_like(frames).masked_fill(clipped, -(10**6)),
            "where": lambda: torch.where(clipped, -(10**6), frames),
            "clamp": lambda: (clipped.float() * -1e9).clamp(min=-(10**6)),
            "compared": lambda: (frames > -(10**6)).float() * clipped.float() * -60000,
        }[self.how]()
        return (torch.softmax(scores, 1) * frames).sum(1)


@pytest.mark.parametrize("how", ["masked_fill", "where", "clamp", "compared"])
def test_whole_numbers_beyond_half_precision_are_bounded(how: str, tmp_path: Path) -> None:
    program = nets.static(MaskedWhole(how))
    TARGET.build(program, nets.frames(), "fp16", tmp_path / "a.onnx")
    assert nets.psnr(_run(tmp_path / "a.onnx"), nets.run(program, nets.frames())) > 40


@pytest.mark.parametrize("how", ["buffer", "float", "int"])
@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_masks_beyond_half_precision_stay_numbers(how: str, target: str, tmp_path: Path) -> None:
    program = nets.static(MaskedSoftmax(how))
    path = tmp_path / f"a{TARGETS[target].suffix}"
    TARGETS[target].build(program, nets.frames(), "fp16", path)
    with closing(open_runner(path, target, threads=1)) as runner:
        found = runner.run(tuple(np.asarray(frame) for frame in nets.frames()))
    # Rounded inputs may lie on the other side of the mask's bound.
    assert nets.psnr(found, nets.run(program, nets.frames())) > 40
