"""dynint8 in ONNX: integer weights by channel, ranges measured at run time, the last one float."""

from __future__ import annotations

from pathlib import Path

import export_toy as nets
import numpy as np
import pytest
import torch
from torch import Tensor

from pockethdr.export.last_convolutions import Step, last_convolutions
from pockethdr.export.targets import TARGETS
from pockethdr.export.trace import traced

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TARGET = TARGETS["onnx"]


def _run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path)
    names = [value.name for value in session.get_inputs()]
    feeds = {n: np.asarray(f) for n, f in zip(names, nets.frames(), strict=True)}
    return session.run(None, feeds)[0]


def test_all_but_the_last_multiply_integers(tmp_path: Path) -> None:
    path, found = nets.built_twice(TARGET, "dynint8", tmp_path)
    assert nets.psnr(_run(path), nets.run(nets.toy(), nets.frames())) >= 45
    assert (found["ops"]["ConvInteger"], found["ops"]["Conv"]) == (11, 1)
    assert 0.7 < found["int8_mac_share"] < 1


def test_weights_are_of_the_kind_that_is_fast_with_a_scale_for_each_channel(tmp_path: Path) -> None:
    path, _ = nets.built_twice(TARGET, "dynint8", tmp_path)
    graph = onnx.load(path).graph
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in graph.initializer}
    coded = [n.input[1] for n in graph.node if n.op_type == "ConvInteger"]
    assert {constants[name].dtype for name in coded} == {np.dtype(np.uint8)}
    for name in coded:
        codes, scale = constants[name], constants[name.replace("_codes", "_scale")]
        assert scale.shape == (len(codes), 1, 1)
        furthest = np.abs(codes.astype(int) - 128).max(axis=(1, 2, 3))
        np.testing.assert_array_equal(furthest, 127)
    assert not [name for name in constants if name.replace("_codes", "") in coded]  # no float copy


def test_frames_that_several_read_are_measured_once(tmp_path: Path) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.coarse = torch.nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
            self.last = torch.nn.Conv2d(4, 4, 1)

        def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
            both = torch.relu(self.fine(mid) + self.coarse(mid))
            return torch.sigmoid(self.last(both)) + 0 * (short + long)

    torch.manual_seed(0)
    program = traced(Twice().eval(), nets.frames())
    found = TARGET.build(program, nets.frames(), "dynint8", tmp_path / "a.onnx")
    assert (found["ops"]["ConvInteger"], found["ops"]["DynamicQuantizeLinear"]) == (2, 1)
    assert nets.psnr(_run(tmp_path / "a.onnx"), nets.run(program, nets.frames())) >= 45


def test_linear_layers_stay_as_they_are(tmp_path: Path) -> None:
    class Gated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 4))
            self.conv = torch.nn.Conv2d(4, 4, 3, padding=1)
            self.last = torch.nn.Conv2d(4, 4, 1)

        def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
            gate = torch.sigmoid(self.linear(mid.mean((2, 3))))
            return torch.sigmoid(self.last(self.conv(short + long) * gate[:, :, None, None]))

    torch.manual_seed(0)
    program = traced(Gated(), nets.frames())
    found = TARGET.build(program, nets.frames(), "dynint8", tmp_path / "a.onnx")
    assert found["ops"]["ConvInteger"] == 1
    assert nets.psnr(_run(tmp_path / "a.onnx"), nets.run(program, nets.frames())) >= 45


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ([(True, "ab", "c"), (False, "c", "d"), (True, "d", "e"), (False, "e", "f")], {2}),
        ([(True, "a", "b"), (True, "a", "c"), (False, "bc", "d")], {0, 1}),
        ([(True, "a", "b"), (False, "b", "cd"), (True, "d", "e"), (False, "ce", "f")], {2}),
        ([(False, "a", "b")], set()),
    ],
    ids=["a tail", "two heads", "through a split", "none"],
)
def test_last_convolutions(steps: list[tuple[bool, str, str]], last: set[int]) -> None:
    assert last_convolutions([Step(*step) for step in steps]) == last
