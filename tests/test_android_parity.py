"""Kotlin against Python on a whole bracket: the gate holds, and a broken artifact does not pass it.

Skipped until `make android-test` has compiled the core. The shared photographs, at full size, are
for `python -m android_demo.ci.parity`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from android_demo.ci.artifacts import export_folder, simulated_bracket
from android_demo.ci.parity import Parity, compare
from android_demo.ci.paths import OUT

JAR = OUT / "jvm/tests.jar"
pytestmark = pytest.mark.slow


def _compared(given: Path | None = None) -> Parity:
    if not JAR.is_file():
        pytest.skip(f"no {JAR.name}: run `make android-test`")
    return compare(simulated_bracket(), jar=JAR, given=given)


def test_kotlin_fuses_as_python_does() -> None:
    """The light of a small, noisy frame suffers more from JPEG than that of the photograph."""
    found = _compared()
    photograph = replace(found, luminance=0.0049)

    assert found.network == 0
    assert found.base_codes <= 1
    assert found.luminance < 0.01
    assert photograph.holds()
    assert not replace(photograph, base_codes=2).holds()
    assert not replace(photograph, luminance=0.0051).holds()


def test_a_scale_two_percent_too_large_fails(tmp_path: Path) -> None:
    artifact = next(export_folder().glob("*_int8.tflite"))
    broken = tmp_path / artifact.name
    broken.write_bytes(_rescaled(artifact.read_bytes(), 1.02))

    found = _compared(broken)

    assert found.network > 1e-4
    assert not found.holds()


def _rescaled(data: bytes, factor: float) -> bytes:
    """The artifact with the scale of what its last DEQUANTIZE reads multiplied."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    dequantize = schema.BuiltinOperator.DEQUANTIZE
    codes = [code.builtinCode for code in model.operatorCodes]
    last = [op for op in graph.operators if codes[op.opcodeIndex] == dequantize][-1]
    scales = graph.tensors[last.inputs[0]].quantization
    scales.scale = [factor * scale for scale in scales.scale]
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
