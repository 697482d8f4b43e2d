"""TFLite, ONNX and TensorRT runners against the torch network that made their artifacts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from threading import local
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pockethdr.cuda import device_count
from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.export.quiet import quiet
from pockethdr.export.tflite import checks, undelegated
from pockethdr.files import sha256_of
from pockethdr.runtime.latency import measure, measure_artifact, peak_memory_mb
from pockethdr.runtime.runner import open_runner, order_inputs
from pockethdr.runtime.trt import Driver, PlanRunner

SIZE = 32


class Tiny(nn.Module):
    """Every frame counts differently, so that swapped inputs or channels show."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(18, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, short, mid, long):
        hidden = torch.relu(self.first(torch.cat([short, mid, long], 1)))
        return torch.sigmoid(self.last(hidden))


class ChannelsLast(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, short, mid, long):
        frames = (frame.permute(0, 3, 1, 2) for frame in (short, mid, long))
        return self.inner(*frames).permute(0, 2, 3, 1)


def example():
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(1, 6, SIZE, SIZE, generator=generator) for _ in range(3))


def as_tflite(network, path):
    litert_torch = pytest.importorskip("litert_torch")
    frames = tuple(frame.permute(0, 2, 3, 1).contiguous() for frame in example())
    with quiet():
        litert_torch.convert(ChannelsLast(network).eval(), frames).export(str(path))


def as_onnx(network, path):
    pytest.importorskip("onnxscript")
    names = ["short", "mid", "long"]
    options = {"dynamo": True, "opset_version": 18, "external_data": False, "verbose": False}
    with quiet():
        torch.onnx.export(network, example(), str(path), input_names=names, **options)


WRITERS = {"tflite": as_tflite, "onnx": as_onnx}


@pytest.fixture(scope="module")
def network():
    return Tiny().eval()


@pytest.fixture(scope="module")
def artifacts(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    for target, write in WRITERS.items():
        write(network, folder / f"tiny.{target}")
    return {target: folder / f"tiny.{target}" for target in WRITERS}


def _reference(network):
    with torch.no_grad():
        return network(*example()).numpy()


def _output(path, target):
    runner = open_runner(path, target, threads=1)
    assert runner.shape == (1, 6, SIZE, SIZE)
    out = runner.run([frame.numpy() for frame in example()])
    runner.close()
    return out


@pytest.mark.parametrize("target", WRITERS)
def test_runner_equals_torch(network, artifacts, target):
    out = _output(artifacts[target], target)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, _reference(network), atol=2e-6)


@pytest.mark.parametrize("target", WRITERS)
def test_a_second_run_does_not_remember_the_first(network, artifacts, target):
    runner = open_runner(artifacts[target], target, threads=1)
    frames = [frame.numpy() for frame in example()]
    first = runner.run(frames)
    runner.run([1 - frame for frame in frames])
    np.testing.assert_array_equal(runner.run(frames), first)


DAMAGE = {
    "swapped outputs": ("last.weight", lambda weight: weight[[2, 1, 0]]),
    "swapped frames": ("first.weight", lambda weight: np.roll(weight, 6, axis=1)),
    "scaled weight": ("first.weight", lambda weight: weight * 1.05),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_comparison_catches_a_wrong_artifact(network, artifacts, tmp_path, damage):
    onnx = pytest.importorskip("onnx")
    name, change = DAMAGE[damage]
    model = onnx.load(artifacts["onnx"])
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    weight = np.ascontiguousarray(change(onnx.numpy_helper.to_array(tensor)), np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(weight, name))
    onnx.save(model, tmp_path / "wrong.onnx")
    difference = np.abs(_output(tmp_path / "wrong.onnx", "onnx") - _reference(network))
    assert difference.max() > 1e-3


@pytest.mark.parametrize("target", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_artifacts_are_refused(artifacts, tmp_path, target, share):
    data = artifacts[target].read_bytes()
    path = tmp_path / f"cut.{target}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtifactError):
        open_runner(path, target, threads=1)


@pytest.mark.parametrize("target", WRITERS)
def test_wrong_frames_are_refused(artifacts, target):
    runner = open_runner(artifacts[target], target, threads=1)
    with pytest.raises(ArtifactError, match="frames of shape"):
        runner.run([np.zeros((1, 6, SIZE, SIZE + 1), np.float32)] * 3)
    with pytest.raises(ArtifactError, match="frames of shape"):
        runner.run([np.zeros((1, 6, SIZE, SIZE), np.float32)] * 2)


@pytest.mark.parametrize(
    ("target", "distribution", "wanted"),
    [
        ("tflite", "ai-edge-litert", "LiteRT {} XNNPACK"),
        ("onnx", "onnxruntime", "ONNX Runtime {} CPU"),
    ],
)
def test_the_name_says_what_ran(artifacts, target, distribution, wanted):
    runner = open_runner(artifacts[target], target)
    assert runner.name == wanted.format(version(distribution))


def test_integer_inputs_and_outputs_are_coded(network, artifacts, tmp_path):
    quantizer = pytest.importorskip("litert_quantizer.quantizer")
    recipe = pytest.importorskip("litert_quantizer.recipe")
    names = [f"args_{i}" for i in range(3)]
    sample = {n: f.permute(0, 2, 3, 1).numpy() for n, f in zip(names, example(), strict=True)}
    with quiet():
        quantize = quantizer.Quantizer(str(artifacts["tflite"]), recipe.static_wi8_ai8())
        ranges = quantize.calibrate({"serving_default": [sample]}, num_threads=1)
        quantize.quantize(ranges).export_model(str(tmp_path / "int8.tflite"))
    error = _output(tmp_path / "int8.tflite", "tflite") - _reference(network)
    assert 0 < np.abs(error).max() < 0.03
    assert checks((tmp_path / "int8.tflite").read_bytes(), "int8")["ops"]["CONV_2D:int8"] == 2


def test_what_a_tflite_file_holds(artifacts):
    found = checks(artifacts["tflite"].read_bytes(), "fp32")
    assert found["ops"]["CONV_2D:float32"] == 2
    assert found["undelegated"] == {}


def test_an_operator_that_xnnpack_leaves_is_listed(tmp_path):
    class Powers(nn.Module):
        def forward(self, short, mid, long):
            return torch.relu(short[:, :3] + mid[:, :3]) + torch.atan(long[:, :3])

    as_tflite(Powers(), tmp_path / "powers.tflite")
    left = undelegated((tmp_path / "powers.tflite").read_bytes())
    assert left
    assert "ADD" not in left


def test_inputs_bind_by_name(tmp_path):
    assert order_inputs(["long", "short", "mid"], tmp_path) == [1, 2, 0]
    assert order_inputs(["a_args_2", "a_args_0", "a_args_1"], tmp_path) == [1, 2, 0]
    with pytest.raises(ArtifactError, match="takes 2 inputs"):
        order_inputs(["short", "long"], tmp_path)


def _manifest(folder, path):
    record = {"target": "onnx", "precision": "fp32", "file": path.name, "sha256": sha256_of(path)}
    manifest = {
        "model": "tiny",
        "spec": "tiny",
        "domain": "rgb",
        "size": [SIZE, SIZE],
        "halo": 2,
        "multiple": 1,
        "channels": 6,
        "output_channels": 3,
        "weights": None,
        "schema": 1,
        "graph_sha256": "",
        "calibration": None,
        "recipe": {},
        "rewrites": [],
        "refusals": [],
        "versions": {},
        "command": "",
        "inputs": ["short", "mid", "long"],
        "artifacts": [record],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_artifact_other_than_its_manifest_says_is_refused(network, artifacts, tmp_path):
    path = shutil.copy(artifacts["onnx"], tmp_path / "tiny.onnx")
    _manifest(tmp_path, path)
    np.testing.assert_allclose(_output(path, "onnx"), _reference(network), atol=2e-6)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="not what was exported"):
        open_runner(path, "onnx")
    with pytest.raises(ArtifactError, match="not listed"):
        open_runner(shutil.copy(artifacts["onnx"], tmp_path / "other.onnx"), "onnx")
    with pytest.raises(ArtifactError, match="no such artifact"):
        open_runner(tmp_path / "missing.onnx", "onnx")


def test_tensorrt_without_a_device_is_unavailable(artifacts):
    if device_count():
        pytest.skip("this host has a CUDA device")
    with pytest.raises(Unavailable, match="no CUDA device answers") as caught:
        open_runner(artifacts["onnx"], "tensorrt")
    assert "NVIDIA" in caught.value.install


def test_unknown_targets_and_threads_are_refused(artifacts):
    with pytest.raises(ArtifactError, match="unknown target"):
        open_runner(artifacts["onnx"], "ncnn")
    with pytest.raises(ArtifactError, match="threads"):
        open_runner(artifacts["onnx"], "onnx", threads=0)


@pytest.mark.parametrize("shape", [["n", 6, "h", "w"], [1, 6, None, None], [4], []])
def test_a_shape_that_is_not_fixed_is_refused(shape, tmp_path):
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [make.make_node("Sum", ["short", "mid", "long"], ["hdr"])],
        "any",
        [make.make_tensor_value_info(name, kind, shape) for name in ("short", "mid", "long")],
        [make.make_tensor_value_info("hdr", kind, shape)],
    )
    opset = [make.make_opsetid("", 17)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "any.onnx")
    with pytest.raises(ArtifactError, match="input shapes") as refused:
        open_runner(tmp_path / "any.onnx", "onnx")
    assert refused.value.expected == "three inputs of one fixed rank-4 shape"


def test_a_plan_runs_in_whichever_thread_asks():
    """CUDA keeps the current context for each thread, and threads may share a `Fuser`."""
    driver = _Driver()
    runner = PlanRunner(driver, _TensorRT, _Engine(), Path("any.plan"), "NCHW")
    frames = [frame.numpy() for frame in example()]
    for work in (lambda: runner.run(frames), runner.close):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()


def test_a_run_that_fails_on_the_device_is_no_missing_device():
    """Such an artifact was reported as not run, and the gate passed."""
    fails = {"cuCtxSynchronize", "cuMemFree_v2"}

    class Cuda:
        def __getattr__(self, name):
            return lambda *_: 700 if name in fails else 0

    driver = Driver.__new__(Driver)
    driver._cuda, driver._context = Cuda(), None
    runner = PlanRunner(driver, _TensorRT, _Engine(), Path("any.plan"), "NCHW")
    with pytest.raises(ArtifactError, match="cuCtxSynchronize failed with code 700"):
        runner.run([frame.numpy() for frame in example()])
    runner.close()  # says nothing more


class _Driver:
    """Device memory that only threads which entered may touch."""

    def __init__(self):
        self._here = local()

    def enter(self):
        self._here.entered = True

    def allocate(self, size):
        return size

    def _touch(self, *_):
        assert self._here.entered

    upload = download = free = _touch

    def synchronize(self):
        self._touch()


class _TensorRT:
    __version__ = "0"
    TensorIOMode = SimpleNamespace(INPUT=0, OUTPUT=1)

    @staticmethod
    def nptype(dtype):
        return dtype


class _Engine:
    num_io_tensors = 4

    def get_tensor_name(self, index):
        return ("short", "mid", "long", "hdr")[index]

    def get_tensor_mode(self, name):
        return int(name == "hdr")

    def get_tensor_shape(self, name):
        return (1, 3 if name == "hdr" else 6, SIZE, SIZE)

    def get_tensor_dtype(self, name):
        return np.float32

    def create_execution_context(self):
        return SimpleNamespace(
            set_tensor_address=lambda *_: None, execute_async_v3=lambda stream: True
        )


def test_latency_in_this_process(artifacts):
    runner = open_runner(artifacts["tflite"], "tflite", threads=1)
    frames = [frame.numpy() for frame in example()]
    latency = measure(runner, frames, threads=1, warmup=1, runs=5)
    assert 0 < latency.p50 <= latency.p90 <= latency.p99
    assert (latency.threads, latency.runs, latency.peak_memory_mb) == (1, 5, None)


def test_the_peak_memory_of_an_artifact_is_not_this_process_peak(artifacts):
    latency = measure_artifact(artifacts["tflite"], threads=1, warmup=0, runs=2)
    assert latency.runtime.startswith("LiteRT")
    assert 10 < latency.peak_memory_mb < 150 < peak_memory_mb()


def test_measuring_a_broken_artifact_says_why(tmp_path):
    (tmp_path / "broken.tflite").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="damaged, not a complete tflite"):
        measure_artifact(tmp_path / "broken.tflite", threads=1)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there")
def test_an_evaluator_is_not_timed_in_place_of_core_ml(tmp_path):
    with pytest.raises(Unavailable, match="need Core ML itself"):
        measure_artifact(tmp_path / "any.mlpackage", threads=1)


def test_a_tflite_artifact_runs_without_torch(artifacts):
    code = (
        "import sys; from pathlib import Path; from pockethdr.runtime.runner import open_runner; "
        "import pockethdr.runtime.fuse, pockethdr.runtime.write; "
        f"open_runner(Path({str(artifacts['tflite'])!r}), 'tflite'); "
        "assert 'torch' not in sys.modules and 'coremltools' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("vnni", "exact"), [(True, "0"), (False, "1")])
def test_onnx_runtime_is_exact_at_a_price_only_where_it_would_saturate(
    vnni: bool, exact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    from pockethdr.runtime import ort

    monkeypatch.setattr(ort, "has_vnni", lambda: vnni)
    options = ort.session_options(1)
    assert options.get_session_config_entry("session.x64quantprecision") == exact
