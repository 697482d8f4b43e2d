"""Core ML packages: reloaded, executed by our evaluator of the saved program."""

import json
from collections.abc import Callable
from pathlib import Path

import export_toy as nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pockethdr.export.kernels import int8_mac_share
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import TARGETS
from pockethdr.export.trace import traced
from pockethdr.files import sha256_of

ct = pytest.importorskip("coremltools")


TARGET = TARGETS["coreml"]


def _run(path: Path) -> np.ndarray:
    from pockethdr.runtime.runner import open_runner

    runner = open_runner(path, "coreml", threads=1)
    try:
        return runner.run(tuple(np.asarray(f) for f in nets.frames()))
    finally:
        runner.close()


def _int8(divided: float = 1.0):
    program = nets.toy()
    ranges = dict(nets.ranges_of(program))
    ranges["relu_5"] = tuple(v / divided for v in ranges["relu_5"])
    return quantized(program, ranges, RECIPES["hdr-ends"], TARGET.scheme)


def test_int8_runs_and_repeats(tmp_path: Path) -> None:
    first, second, done = tmp_path / "a.mlpackage", tmp_path / "b.mlpackage", _int8()
    found = TARGET.build(done.program, nets.frames(), "int8", first)
    TARGET.build(done.program, nets.frames(), "int8", second)
    assert nets.psnr(_run(first), nets.run(nets.toy(), nets.frames())) >= 40
    assert sha256_of(first) == sha256_of(second)
    assert found["ops"]["conv"] == 12
    assert found["constexpr"] == {"constexpr_affine_dequantize": 8}
    assert found["int8_mac_share"] == pytest.approx(int8_mac_share(done.program))
    assert not {"add", "mul", "concat", "tanh"} & set(found["float_ops"])


class Windowed(nn.Module):
    """Attention within windows of 8×8, whose views have six and seven axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(12, 16, 3, padding=1), nn.Conv2d(16, 4, 3, padding=1)
        self.qkv = nn.Conv2d(16, 48, 1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = torch.relu(self.first(torch.cat([short, mid, long], 1)))
        n, c, h, w = x.shape
        windows = self.qkv(x).view(n, 3, c, h // 8, 8, w // 8, 8).permute(1, 0, 3, 5, 4, 6, 2)
        q, k, v = windows.reshape(3, -1, 64, c)
        seen = ((q @ k.transpose(1, 2)) / c**0.5).softmax(-1) @ v
        seen = seen.view(n, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return torch.sigmoid(self.last(x + seen))


def test_int8_of_windows_whose_views_have_more_axes_than_core_ml(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = nets.static(Windowed())
    done = quantized(program, nets.ranges_of(program), RECIPES["full"], TARGET.scheme)
    found = TARGET.build(done.program, nets.frames(), "int8", tmp_path / "a.mlpackage")
    out = _run(tmp_path / "a.mlpackage")
    assert nets.psnr(out, nets.run(done.program, nets.frames())) >= 50
    assert found["int8_mac_share"] == 1  # of convolutions


def test_fp16_package_loads_with_settled_identifiers(tmp_path: Path) -> None:
    path = tmp_path / "a.mlpackage"
    TARGET.build(nets.toy(), nets.frames(), "fp16", path)
    assert nets.psnr(_run(path), nets.run(nets.toy(), nets.frames())) >= 60
    raw = json.loads((path / "Manifest.json").read_text())
    assert raw["rootModelIdentifier"] in raw["itemInfoEntries"]
    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    assert [i.name for i in spec.description.input] == ["short", "mid", "long"]
    assert [o.name for o in spec.description.output] == ["hdr"]
    kinds = {
        i.type.multiArrayType.dataType for i in (*spec.description.input, *spec.description.output)
    }
    assert kinds == {ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32}


def test_a_wrong_scale_fails(tmp_path: Path) -> None:
    TARGET.build(_int8(1.5).program, nets.frames(), "int8", tmp_path / "wrong.mlpackage")
    expected = nets.run(nets.toy(), nets.frames())
    right = nets.psnr(nets.run(_int8().program, nets.frames()), expected)
    assert nets.psnr(_run(tmp_path / "wrong.mlpackage"), expected) < right - 5


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2),
        lambda x: F.channel_shuffle(x, 2),
        F.celu,
    ],
    ids=["pool", "shuffle", "celu"],
)
def test_layers_of_own_networks(layer: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    class Own(torch.nn.Module):
        def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
            return layer(short - mid + long)

    frames, path = nets.frames(), tmp_path / "a.mlpackage"
    TARGET.build(traced(Own(), frames), frames, "fp32", path)
    np.testing.assert_allclose(_run(path), Own()(*frames).numpy(), atol=1e-5)
