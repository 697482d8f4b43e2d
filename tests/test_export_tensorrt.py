"""TensorRT plans: compiled here where a compiler is, never claimed to have run."""

import importlib.util
from pathlib import Path

import export_toy as nets
import pytest

from pockethdr.errors import Unavailable
from pockethdr.export import tensorrt_backend
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import LITERT_INT8, TARGETS, TargetError

pytest.importorskip("onnx")


TARGET = TARGETS["tensorrt"]


@pytest.fixture
def _compiler() -> str:
    try:
        return tensorrt_backend.backend()[0]
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_builds_and_repeats(tmp_path: Path, precision: str) -> None:
    program = nets.toy()
    if precision == "int8":
        ranges = nets.ranges_of(program)
        program = quantized(program, ranges, RECIPES["hdr-ends"], TARGET.scheme).program
    first, second = tmp_path / "a.plan", tmp_path / "b.plan"
    found = TARGET.build(program, nets.frames(), precision, first)
    assert found["executed"] is False
    assert found["reason"]
    assert found["kernels"]["kind"] == "compile-time estimate"
    assert found["kernels"]["count"] > 5
    assert (found["kernels"]["reading_int8"] > 0) == (precision == "int8")
    if precision == "int8" and found["backend"].startswith("tensorrt_rtx"):
        TARGET.build(program, nets.frames(), precision, second)
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.usefixtures("_compiler")
def test_what_it_would_misread_is_refused(tmp_path: Path) -> None:
    program = nets.toy()
    asymmetric = quantized(
        program, nets.ranges_of(program), RECIPES["hdr-ends"], LITERT_INT8
    ).program
    with pytest.raises(TargetError, match="zero-point"):
        TARGET.build(asymmetric, nets.frames(), "int8", tmp_path / "a.plan")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = importlib.util.find_spec
    hidden = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in hidden else real(name, *a)
    )
    with pytest.raises(Unavailable, match="pockethdr"):
        TARGET.build(nets.toy(), nets.frames(), "fp16", tmp_path / "a.plan")
    with pytest.raises(Unavailable, match="pockethdr"):
        tensorrt_backend.backend()


def test_tensorrt_without_a_gpu_cannot_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package alone is not enough: doctor and export have to agree."""
    real = importlib.util.find_spec
    known = {"tensorrt": object(), "tensorrt_rtx_bindings": None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: known.get(name, real(name)))
    monkeypatch.setattr(tensorrt_backend, "device_count", lambda: 0)
    with pytest.raises(Unavailable, match="TensorRT with a GPU"):
        TARGET.require()
    monkeypatch.setattr(tensorrt_backend, "device_count", lambda: 1)
    TARGET.require()
    assert tensorrt_backend.backend_name() == "tensorrt"


def test_there_is_no_fp32_plan(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no fp32"):
        TARGET.build(nets.toy(), nets.frames(), "fp32", tmp_path / "a.plan")
