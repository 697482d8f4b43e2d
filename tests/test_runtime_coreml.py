"""The MIL evaluator against the torch networks whose saved packages it runs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pockethdr.brackets.metrics import psnr
from pockethdr.errors import ArtifactError
from pockethdr.export.quiet import quiet
from pockethdr.runtime.mil.operators import OPERATORS, Arguments
from pockethdr.runtime.mil.program import NAME, MilProgram
from pockethdr.runtime.runner import open_runner

with quiet():
    ct = pytest.importorskip("coremltools")

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="Core ML itself runs here")
FRAMES = ("short", "mid", "long")
SIZE = 16


class Many(nn.Module):
    """A network of most of the operations that HDR networks use."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter = nn.Conv2d(18, 16, 3, padding=1)
        self.down = nn.Conv2d(16, 32, 4, stride=2, padding=1)
        self.wide = nn.Conv2d(32, 32, 3, padding=2, dilation=2, groups=4)
        self.up = nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(1, 16)
        self.squeeze = nn.Linear(16, 16)
        self.out = nn.Conv2d(16, 12, 1)

    def forward(self, short, mid, long):
        x = F.leaky_relu(self.enter(torch.cat([short, mid, long], 1)), 0.1)
        low = F.silu(self.wide(F.relu(self.down(x))))
        y = self.up(low) + F.interpolate(F.max_pool2d(x, 2, 2), scale_factor=2, mode="bilinear")
        y = self.norm(y) * torch.sigmoid(self.squeeze(y.mean((2, 3))))[:, :, None, None]
        left, right = y.chunk(2, 1)
        y = torch.cat([torch.tanh(left) * right, F.avg_pool2d(x, 3, 1, 1)[:, 8:]], 1)
        y = F.pad(y, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1].clamp(-2, 2)
        y = F.pixel_unshuffle(F.pixel_shuffle(self.out(y), 2), 2)
        attention = torch.softmax(y[:, :3].flatten(2) @ y[:, 3:6].flatten(2).transpose(1, 2), -1)
        return torch.sigmoid((attention @ y[:, 6:9].flatten(2)).reshape(y[:, :3].shape))


def example():
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(1, 6, SIZE, SIZE, generator=generator) for _ in range(3))


def package(network, path, precision="fp16"):
    floats = {"fp16": ct.precision.FLOAT16, "fp32": ct.precision.FLOAT32}
    with quiet():
        program = torch.export.export(network, example()).run_decompositions({})
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=floats[precision],
            skip_model_load=True,
            inputs=[ct.TensorType(name=name, shape=(1, 6, SIZE, SIZE)) for name in FRAMES],
            outputs=[ct.TensorType(name="hdr")],
        )
        model.save(str(path))
    return model


@pytest.fixture(scope="module")
def network():
    return Many().eval()


@pytest.fixture(scope="module")
def packages(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    optimize = pytest.importorskip("coremltools.optimize.coreml")
    package(network, folder / "fp32.mlpackage", "fp32")
    model = package(network, folder / "fp16.mlpackage")
    config = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    with quiet():
        weights = optimize.linear_quantize_weights(model, optimize.OptimizationConfig(config))
        weights.save(str(folder / "w8.mlpackage"))
    return folder


def _reference(network):
    with torch.no_grad():
        return network(*example()).numpy()


def _output(path):
    runner = open_runner(path, "coreml", threads=1)
    assert runner.name == NAME == "MIL evaluator (not Core ML)"
    assert runner.shape == (1, 6, SIZE, SIZE)
    return runner.run([frame.numpy() for frame in example()])


def test_fp32_equals_torch(network, packages):
    out = _output(packages / "fp32.mlpackage")
    np.testing.assert_allclose(out, _reference(network), atol=1e-5)


@pytest.mark.parametrize(("name", "low", "high"), [("fp16", 60, 110), ("w8", 40, 70)])
def test_stored_precision_shows(network, packages, name, low, high):
    out = _output(packages / f"{name}.mlpackage")
    assert low < psnr(out, _reference(network), data_range=1.0) < high
    assert np.array_equal(out, out.astype(np.float16))


def test_a_quantised_weight_is_stored_as_such(packages):
    found = MilProgram(packages / "w8.mlpackage").op_histogram()
    assert any(name.startswith("constexpr_") for name in found)
    assert found["conv"] >= 4


def test_the_comparison_catches_swapped_frames(network, tmp_path):
    wrong = Many().eval()
    with torch.no_grad():
        wrong.enter.weight.copy_(wrong.enter.weight.roll(6, dims=1))
    package(wrong, tmp_path / "wrong.mlpackage")
    assert psnr(_output(tmp_path / "wrong.mlpackage"), _reference(network), data_range=1.0) < 50


def test_damaged_packages_are_refused(packages, tmp_path):
    import shutil

    for name in ("model.mlmodel", "weight.bin", "Manifest.json"):
        path = tmp_path / f"{name}.mlpackage"
        shutil.copytree(packages / "fp16.mlpackage", path)
        (file,) = path.rglob(name)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
        with pytest.raises(ArtifactError):
            open_runner(path, "coreml")


def _program(body, path, shape=(1, 4, 2, 2)):
    """Save a hand-written MIL program of one input `x`."""
    from coremltools.converters.mil import Builder as mb

    program = mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target.iOS17)(
        body
    )
    with quiet():
        ct.convert(
            program,
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS17,
            skip_model_load=True,
        ).save(str(path))
    return MilProgram(path)


def test_quantize_and_dequantize_follow_their_definition(tmp_path):
    from coremltools.converters.mil import Builder as mb

    scale = np.array([0.1, 0.2, 0.3, 0.5], np.float32)
    zero = np.array([0, 3, -5, 100], np.int8)

    def body(x):
        codes = mb.quantize(input=x, scale=scale, zero_point=zero, axis=1, output_dtype="int8")
        return mb.dequantize(input=codes, scale=scale, zero_point=zero, axis=1)

    program = _program(body, tmp_path / "qdq.mlpackage")
    x = np.linspace(-20, 20, 16, dtype=np.float32).reshape(1, 4, 2, 2)
    x[0, 0, 0] = [0.05, 0.15]  # halves round to even
    (out,) = program.run({next(iter(program.input_shapes)): x}).values()
    s, z = scale.reshape(1, 4, 1, 1), zero.astype(np.float32).reshape(1, 4, 1, 1)
    expected = (np.clip(np.rint(x / s) + z, -128, 127) - z) * s
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_slices_and_depth_to_space_follow_their_definition(tmp_path):
    from coremltools.converters.mil import Builder as mb

    def body(x):
        y = mb.slice_by_index(
            x=x,
            begin=[0, 3, 0, 0],
            end=[1, 0, 2, 2],
            stride=[1, -1, 1, 1],
            end_mask=[False, True, False, False],
        )
        return mb.depth_to_space(x=y, block_size=2)

    program = _program(body, tmp_path / "slice.mlpackage")
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)
    (out,) = program.run({next(iter(program.input_shapes)): x}).values()
    expected = F.pixel_shuffle(torch.from_numpy(x[:, ::-1].copy()), 2).numpy()
    np.testing.assert_array_equal(out, expected)


WEIGHT = np.arange(12, dtype=np.float32).reshape(2, 2, 3) - 5
INDICES = torch.arange(120).reshape(1, 4, 5, 6) % 4
GRID = torch.rand(1, 5, 4, 2, generator=torch.Generator().manual_seed(2)) * 2.4 - 1.2


def _sampled(mb, x, align_corners, padding):
    return mb.resample(
        x=x,
        coordinates=GRID.numpy(),
        sampling_mode="bilinear",
        padding_mode=padding,
        padding_value=np.float32(0),
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=align_corners,
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            lambda mb, x: mb.crop(x=x, crop_height=[1, 0], crop_width=[2, 1]),
            lambda x: x[:, :, 1:, 2:-1],
        ),
        (
            lambda mb, x: mb.reduce_l2_norm(x=x, axes=[1, 2], keep_dims=True),
            lambda x: torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True),
        ),
        (
            lambda mb, x: mb.reduce_log_sum_exp(x=x, axes=[1]),
            lambda x: torch.logsumexp(x, 1),
        ),
        (lambda mb, x: mb.atan(x=x), torch.atan),
        (lambda mb, x: mb.cumsum(x=x, axis=2), lambda x: x.cumsum(2)),
        (
            lambda mb, x: mb.cumsum(x=x, axis=-1, exclusive=True, reverse=True),
            lambda x: x.sum(-1, keepdim=True) - x.cumsum(-1),
        ),
        (lambda mb, x: mb.topk(x=x, k=2, axis=1)[0], lambda x: x.topk(2, 1).values),
        (
            lambda mb, x: mb.cast(x=mb.topk(x=x, k=2, axis=2, ascending=True)[1], dtype="fp32"),
            lambda x: x.topk(2, 2, largest=False).indices.float(),
        ),
        (lambda mb, x: mb.reverse(x=x, axes=[1, 3]), lambda x: x.flip(1, 3)),
        (
            lambda mb, x: mb.cast(x=mb.reduce_argmax(x=x, axis=1, keep_dims=False), dtype="fp32"),
            lambda x: x.argmax(1).float(),
        ),
        (
            lambda mb, x: mb.cast(x=mb.argsort(x=x, axis=3, ascending=True), dtype="fp32"),
            lambda x: x.argsort(3).float(),
        ),
        (
            lambda mb, x: mb.conv(
                x=mb.reshape(x=x, shape=[3, 2, 20]), weight=WEIGHT, pad_type="same", strides=[2]
            ),
            lambda x: F.conv1d(
                F.pad(x.reshape(3, 2, 20), (0, 1)), torch.from_numpy(WEIGHT), stride=2
            ),
        ),
        (
            lambda mb, x: mb.scatter_along_axis(
                data=x, indices=INDICES.numpy().astype(np.int32), updates=x, axis=1, mode="add"
            ),
            lambda x: x.scatter_add(1, INDICES, x),
        ),
        (lambda mb, x: mb.linear_activation(x=x, alpha=2.0, beta=0.5), lambda x: 2 * x + 0.5),
        (
            lambda mb, x: _sampled(mb, x, True, "constant"),
            lambda x: F.grid_sample(x, GRID, align_corners=True),
        ),
        (
            lambda mb, x: _sampled(mb, x, False, "border"),
            lambda x: F.grid_sample(x, GRID, padding_mode="border", align_corners=False),
        ),
    ],
)
def test_operations_equal_those_of_torch(tmp_path, body, expected):
    from coremltools.converters.mil import Builder as mb

    program = _program(lambda x: body(mb, x), tmp_path / "one.mlpackage", shape=(1, 4, 5, 6))
    x = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    (out,) = program.run({next(iter(program.input_shapes)): x.numpy()}).values()
    np.testing.assert_allclose(out, expected(x).numpy(), atol=1e-5)


def test_an_unknown_operation_is_named(tmp_path):
    from coremltools.converters.mil import Builder as mb

    with pytest.raises(ArtifactError, match="does not know band_part"):
        _program(lambda x: mb.band_part(x=x, lower=0, upper=1), tmp_path / "band_part.mlpackage")


def _operator(name, **values):
    return OPERATORS[name](Arguments(values)).numpy()


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("indices", [[0, 2], [[0, 2], [1, 0]], [[-1], [1]]])
def test_gather_takes_whole_slices(axis, indices):
    x = torch.arange(12.0).reshape(3, 4)
    ours = _operator("gather", x=x, indices=np.array(indices), axis=axis)
    np.testing.assert_array_equal(ours, np.take(x.numpy(), indices, axis))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_along_an_axis_takes_single_values(axis):
    x, indices = torch.arange(12.0).reshape(3, 4), np.array([[0, 2], [1, -1]])
    ours = _operator("gather_along_axis", x=x, indices=indices, axis=axis)
    cut = x.numpy()[:, :2] if axis == 0 else x.numpy()[:2]
    np.testing.assert_array_equal(ours, np.take_along_axis(cut, indices, axis))


@pytest.mark.parametrize("axis", [0, 1, -1, -2, -3])
def test_interleaving_takes_turns(axis):
    parts = torch.arange(4.0).reshape(1, 2, 2), -torch.ones(1, 2, 2)
    ours = np.moveaxis(_operator("concat", values=parts, axis=axis, interleave=True), axis, 0)
    for index, part in enumerate(parts):
        np.testing.assert_array_equal(ours[index::2], np.moveaxis(part.numpy(), axis, 0))
