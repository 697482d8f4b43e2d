"""The inner tensors of an INT8 artifact, from each runtime, are those of the program it is of."""

from pathlib import Path
from typing import Any

import export_toy as nets
import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from pockethdr.errors import ArtifactError
from pockethdr.export.codes import codes_of_program
from pockethdr.export.placement import is_move, operations
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import TARGETS
from pockethdr.report.matching import matched
from pockethdr.runtime.runner import open_runner
from pockethdr.runtime.taps import Step, Tap, chosen, open_taps


def values(program: fx.GraphModule) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n.name] = value.numpy()
            return value

    with torch.no_grad():
        Recorder(program).run(*nets.frames())
    return {n.name: found[n.name] for n in operations(program) if not is_move(n)}


@pytest.mark.parametrize("name", ["tflite", "onnx", "coreml"])
def test_every_layer_is_seen_and_found(name: str, tmp_path: Path) -> None:
    target, program = TARGETS[name], nets.toy()
    done = quantized(program, nets.ranges_of(program), RECIPES["hdr-ends"], target.scheme)
    path = tmp_path / f"toy{target.suffix}"
    target.build(done.program, nets.frames(), "int8", path)
    frames = [np.asarray(frame) for frame in nets.frames()]

    taps = open_taps(path, name)
    ours, floats = taps.run(frames), values(program)
    # A convolution that a ReLU clamps is seen as the ReLU.
    clamps = [n for n in operations(program) if "relu" in n.name]
    names = list(floats)
    hidden = {names.index(n.all_input_nodes[0].name): names.index(n.name) for n in clamps}
    pairs = matched(ours, list(floats.values()), channels_last=taps.channels_last, hidden_by=hidden)
    found = {names[pair.node]: pair for pair in pairs}
    assert {name for i, name in enumerate(names) if i not in hidden} <= set(found)
    for node, pair in found.items():
        noise = pair.aligned(ours[pair.tap]) - floats[node]
        assert np.square(noise).mean() < 0.02 * np.square(floats[node]).mean(), node
    codes = {tap.code for tap in taps.taps if tap.code}
    assert len(codes) > 8
    if name != "coreml":  # whose scales are half floats
        wanted = {round(scale, 8) for scale, _ in codes_of_program(done.program)}
        assert {round(scale, 8) for scale, _ in codes} <= wanted
    with_taps = next(ours[p.tap] for n, p in found.items() if n == names[-1])
    runner = open_runner(path, name)
    assert np.allclose(np.sort(with_taps.ravel()), np.sort(runner.run(frames).ravel()), atol=1e-3)


class ClampedFirst(nn.Module):
    """Starts with what ONNX calls Clip, as the codes of an unsigned activation do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 * nets.frames()[0].shape[1], 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(torch.cat([short.clamp(0.1, 1), mid, long], 1)))


def test_a_network_may_clamp_its_frames(tmp_path: Path) -> None:
    target, program = TARGETS["onnx"], nets.static(ClampedFirst())
    done = quantized(program, nets.ranges_of(program), RECIPES["full"], target.scheme)
    target.build(done.program, nets.frames(), "int8", tmp_path / "a.onnx")
    found = open_taps(tmp_path / "a.onnx", "onnx").run([np.asarray(f) for f in nets.frames()])
    assert found


def test_plans_do_not_show_what_is_inside(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not show"):
        open_taps(tmp_path / "a.plan", "tensorrt")


def test_a_divided_scale_is_multiplied_back() -> None:
    """What coremltools makes of x = conv(…), y = x + … : both scales over that of x."""
    steps = [
        Step("conv", ("in",), "x"),
        Step("quantize", ("x",), "xq", (0.5, 0)),
        Step("dequantize", ("xq",), "xd", (1.0, 0)),
        Step("add", ("xd", "rd"), "y"),
        Step("relu", ("y",), "z"),
        Step("quantize", ("z",), "zq", (2.0, 0)),
        Step("dequantize", ("zq",), "zd", (1.0, 0)),
        Step("conv", ("zd",), "out"),
    ]
    assert chosen(steps) == [
        Tap("xd", "conv", (0.5, 0), 0.5),
        Tap("zd", "relu", (1.0, 0), 1.0),
        Tap("out", "conv"),
    ]


def test_a_layer_that_is_all_wrong_is_still_found() -> None:
    random = np.random.default_rng(0)
    nodes = [random.normal(size=(1, 4, 6, 5)) for _ in range(4)]
    turned = [node.transpose(0, 2, 3, 1) for node in nodes]
    turned[2] = random.normal(size=turned[2].shape)
    extra = random.normal(size=(1, 9, 9, 9))
    pairs = matched([turned[1], extra, turned[0], *turned[2:]], nodes, channels_last=True)
    assert [(p.tap, p.node, p.channels_last) for p in pairs] == [
        (2, 0, True), (0, 1, True), (3, 2, True), (4, 3, True),
    ]  # fmt: skip


def test_a_multiple_of_a_value_is_not_taken_for_it():
    """As in `y = base + 0.1 * tanh(x)`: every layer correlates with its neighbours."""
    random = np.random.default_rng(0)
    value = random.normal(size=(1, 4, 16, 16))
    nodes = [value, value / 10, value + 3]
    rounded = [node + random.normal(scale=0.003, size=value.shape) * node.std() for node in nodes]
    pairs = matched([rounded[2], rounded[1], rounded[0]], nodes, channels_last=False)
    assert [(pair.tap, pair.node) for pair in pairs] == [(2, 0), (1, 1), (0, 2)]
