"""TFLite files, run by LiteRT against the float program."""

from collections.abc import Callable
from pathlib import Path

import export_toy as nets
import numpy as np
import pytest
import torch
from dynamic_layers import DcdPaper
from torch import Tensor, nn

from pockethdr.export.kernels import int8_mac_share
from pockethdr.export.pipeline import export_model
from pockethdr.export.quantize import quantized
from pockethdr.export.read_back import stored_in
from pockethdr.export.recipe import RECIPES, Recipe
from pockethdr.export.targets import TARGETS, TargetError
from pockethdr.export.trace import traced
from pockethdr.models.load import load_model
from pockethdr.report.validate import validate

pytest.importorskip("litert_torch")


TARGET = TARGETS["tflite"]


def _run(path: Path) -> np.ndarray:
    from pockethdr.runtime.runner import open_runner

    runner = open_runner(path, "tflite", threads=1)
    try:
        return runner.run(tuple(np.asarray(f) for f in nets.frames()))
    finally:
        runner.close()


def _int8(divided: float = 1.0, **options: object):
    program = nets.toy(**options)
    ranges = dict(nets.ranges_of(program))
    if divided != 1.0:
        ranges["relu_5"] = tuple(v / divided for v in ranges["relu_5"])
    return quantized(program, ranges, RECIPES["hdr-ends"], TARGET.scheme)


def test_fp16(tmp_path: Path) -> None:
    path, program = tmp_path / "a.tflite", nets.toy()
    found = TARGET.build(program, nets.frames(), "fp16", path)
    assert nets.psnr(_run(path), nets.run(program, nets.frames())) >= 60
    assert found["undelegated"] == {}
    assert found["ops"]["DEQUANTIZE:float32"] > 0


def test_int8_body(tmp_path: Path) -> None:
    first, second, done = tmp_path / "a.tflite", tmp_path / "b.tflite", _int8()
    found = TARGET.build(done.program, nets.frames(), "int8", first)
    TARGET.build(done.program, nets.frames(), "int8", second)
    out = _run(first)
    assert nets.psnr(out, nets.run(nets.toy(), nets.frames())) >= 40
    assert nets.psnr(out, nets.run(done.program, nets.frames())) >= 50
    assert first.read_bytes() == second.read_bytes()
    assert found["int8_mac_share"] == pytest.approx(int8_mac_share(done.program))
    assert found["undelegated"] == {}
    ops = found["ops"]
    assert (ops["CONV_2D:int8"], ops["CONV_2D:float32"]) == (8, 4)
    assert not {"ADD", "MUL", "CONCATENATION", "TANH"} & set(found["float_ops"])


class Decomposed(nn.Module):
    """Dynamic convolution decomposition, which computes on flattened feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(12, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
        self.dynamic = DcdPaper()

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = torch.relu(self.first(torch.cat([short, mid, long], 1)))
        return torch.sigmoid(self.last(torch.relu(self.dynamic(x))))


def test_int8_of_dynamic_kernels_on_flattened_maps(tmp_path: Path) -> None:
    """LiteRT's converter takes no quantised N×C×HW between convolutions."""
    torch.manual_seed(0)
    program = nets.static(Decomposed())
    done = quantized(program, nets.ranges_of(program), RECIPES["hdr"], TARGET.scheme)
    found = TARGET.build(done.program, nets.frames(), "int8", tmp_path / "a.tflite")
    assert nets.psnr(_run(tmp_path / "a.tflite"), nets.run(program, nets.frames())) >= 40
    assert not [op for op in found["ops"] if "RESHAPE" in op]


def test_dynint8_multiplies_integers_and_stores_a_scale_for_each_channel(tmp_path: Path) -> None:
    path, found = nets.built_twice(TARGET, "dynint8", tmp_path)
    assert nets.psnr(_run(path), nets.run(nets.toy(), nets.frames())) >= 45
    assert 0.7 < found["int8_mac_share"] < 1  # the last convolution is float
    assert found["undelegated"] == {}
    assert found["ops"]["CONV_2D:float32"] == 12
    stored = stored_in(path, "tflite")
    assert len(stored.kernels) == 11
    assert {kernel.reads for kernel in stored.kernels} == {""}  # measured as it runs


def test_a_wrong_scale_fails(tmp_path: Path) -> None:
    TARGET.build(_int8(1.5).program, nets.frames(), "int8", tmp_path / "wrong.tflite")
    expected = nets.run(nets.toy(), nets.frames())
    right = nets.psnr(nets.run(_int8().program, nets.frames()), expected)
    assert nets.psnr(_run(tmp_path / "wrong.tflite"), expected) < right - 5


def test_what_falls_to_float_is_in_the_checks(tmp_path: Path) -> None:
    done = _int8(end="transposed", phi="global", slope=0.1)
    found = TARGET.build(done.program, nets.frames(), "int8", tmp_path / "a.tflite")
    assert found["float_ops"]["TRANSPOSE_CONV"] == 1
    assert found["float_ops"]["MEAN"] == 1
    assert found["ops"]["LEAKY_RELU:int8"] == 1
    assert found["int8_mac_share"] == pytest.approx(int8_mac_share(done.program))
    expected = nets.run(nets.toy(end="transposed", phi="global", slope=0.1), nets.frames())
    assert nets.psnr(_run(tmp_path / "a.tflite"), expected) >= 40


class _ReluOfJoin(torch.nn.Module):
    """A ReLU that no operation before it can take in."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.Conv2d(4, 8, 1)
        self.last = torch.nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, short, mid, long):
        joined = torch.relu(torch.cat([self.a(short - mid), self.b(long)], 1))
        return torch.sigmoid(4 * self.last(joined))


@pytest.mark.parametrize("low", [0.0, -0.5])
def test_a_relu_of_its_own_is_one_that_xnnpack_takes(tmp_path: Path, low: float) -> None:
    """Unless its codes begin below zero: quantising would not clamp what leaks."""
    torch.manual_seed(3)
    program = traced(_ReluOfJoin(), nets.frames())
    ranges = nets.ranges_of(program)
    ranges = {**ranges, "relu": (low, ranges["relu"][1])}
    done = quantized(program, ranges, Recipe("wide", float_first=False), TARGET.scheme)
    found = TARGET.build(done.program, nets.frames(), "int8", tmp_path / "a.tflite")
    assert found["undelegated"] == ({} if low == 0 else {"RELU": 1})
    assert nets.psnr(_run(tmp_path / "a.tflite"), nets.run(done.program, nets.frames())) >= 50


def test_what_the_runtime_has_no_kernel_for_is_refused(tmp_path: Path) -> None:
    class Sorted(torch.nn.Module):
        def forward(self, short, mid, long):
            return torch.sort(short + mid + long, 1)[0]

    program = traced(Sorted(), nets.frames())
    with pytest.raises(TargetError, match=r"LiteRT does not run .*STABLEHLO_SORT"):
        TARGET.build(program, nets.frames(), "fp32", tmp_path / "a.tflite")
    assert not list(tmp_path.iterdir())


class _Gated(torch.nn.Module):
    """Functions that LiteRT's converter would make integer, between integer convolutions."""

    def __init__(self, gate) -> None:
        super().__init__()
        self.first, self.gate = torch.nn.Conv2d(12, 8, 3, padding=1), gate
        self.a, self.b = (torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.last = torch.nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short, mid, long):
        x = torch.relu(self.first(torch.cat([short, mid, long], 1)))
        return torch.sigmoid(self.last(self.gate(self.a(x)) * self.b(x)))


@pytest.mark.parametrize(
    ("gate", "least"),
    [
        (lambda x: torch.softmax(x, 1), 50),
        (torch.nn.functional.softplus, 50),
        (torch.nn.functional.elu, 50),
        (torch.nn.functional.mish, 100),  # 70 with the scales that the converter gives it
    ],
)
def test_functions_of_other_scales_stay_float(gate, least: float, tmp_path: Path) -> None:
    torch.manual_seed(5)
    program = traced(_Gated(gate).eval(), nets.frames())
    done = quantized(program, nets.ranges_of(program), RECIPES["hdr-ends"], TARGET.scheme)
    TARGET.build(done.program, nets.frames(), "int8", tmp_path / "a.tflite")
    assert nets.psnr(_run(tmp_path / "a.tflite"), nets.run(done.program, nets.frames())) >= least


class Compared(nn.Module):
    """Feature maps that are read as such, and by what wants their channels first."""

    def __init__(self, compare: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.frame, self.last = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(16, 4, 3, padding=1)
        self.compare = compare

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x, y = self.frame(short * long), self.frame(mid)
        return torch.sigmoid(self.last(torch.cat([x, x * self.compare(x, y)], 1)))


@pytest.mark.parametrize(
    "compare",
    [
        lambda x, y: torch.cosine_similarity(x, y, 1).unsqueeze(1),
        lambda x, y: torch.einsum("nchw,ndhw->ncd", x, y).softmax(-1).sum(-1)[..., None, None],
    ],
    ids=["cosine of pixels", "attention between channels"],
)
def test_int8_of_maps_that_others_read_channels_first(compare, tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = nets.static(Compared(compare))
    done = quantized(program, nets.ranges_of(program), RECIPES["full"], TARGET.scheme)
    TARGET.build(done.program, nets.frames(), "int8", tmp_path / "a.tflite")
    assert nets.psnr(_run(tmp_path / "a.tflite"), nets.run(done.program, nets.frames())) >= 50


WHOLE = """
import torch
from torch import nn
from torch.nn import functional as F

class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.kernel, self.film = nn.Linear(8, 72), nn.Linear(8, 8)
        self.c = nn.Conv2d(8, 4, 3, padding=1)
        with torch.no_grad():
            self.kernel.weight *= 0.05
            self.kernel.bias *= 0.05

    def forward(self, short, mid, long):
        x = torch.relu(self.a(torch.cat([short, mid, long], 1)))
        told = x.mean((2, 3))
        x = x + F.conv2d(x, self.kernel(told).view(8, 1, 3, 3), padding=1, groups=8)  # tiny values
        film = 1 + self.film(told)[..., None, None]  # values about one
        return torch.sigmoid(self.c(F.softplus(torch.relu(self.b(x))) * film))

def build():
    torch.manual_seed(0)
    return Whole()
"""


def test_parts_of_what_describes_the_image_have_codes_of_their_own(tmp_path: Path) -> None:
    """The tile part reads both from one input, which the converter gave the codes of the first."""
    pytest.importorskip("onnxruntime")
    sample = Path(__file__).resolve().parents[1] / "brackets" / "sample"
    (tmp_path / "whole.py").write_text(WHOLE)
    loaded = load_model(f"{tmp_path / 'whole.py'}:build", domain="raw")
    export_model(
        loaded,
        targets=["onnx", "tflite"],
        precisions=["int8"],
        bracket_folders=[sample],
        out=tmp_path / "out",
        size=(64, 64),
        recipe="hdr",
    )
    rows = validate(tmp_path / "out", [sample])
    near = {row.target: row.psnr_mu_vs_reference for row in rows}
    assert near["onnx"] > 80
    assert near["tflite"] == pytest.approx(near["onnx"], abs=1)
    assert not any(row.foreign or row.missing for row in rows)
