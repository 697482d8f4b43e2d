"""Artifacts are looked through before native code parses them, whoever vouches for them.

A manifest says that a file is whole, not that it is harmless: who made the one made the other. So
every file is walked first, which takes milliseconds, by code that cannot run out of its buffer: a
flatbuffer by its schema in Python, ONNX by its checker, a package by its own list of contents. That
finds a broken structure and no more. TensorRT plans hold compiled code, which nothing can check.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

from pockethdr.errors import ArtifactError, first_line

_IDENTIFIER = b"TFL3"


def verify(artifact: Path, target: str) -> None:
    """Refuse an artifact of `target`, one of `CHECKS`, whose structure is broken.

    Raises:
        ArtifactError: it is.
    """
    check = CHECKS[target]
    try:
        check(artifact)
    except _BROKEN as error:
        raise ArtifactError(
            f"{artifact}: damaged, not a complete {target} artifact ({first_line(error)})",
            expected="an artifact as `pockethdr export` wrote it, best with its manifest.json",
            fix="export the model again, or copy the file again",
        ) from error


_BROKEN = (OSError, ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error)


def _flatbuffer(artifact: Path) -> None:
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        return  # nothing here could run it either
    data = artifact.read_bytes()
    if data[4:8] != _IDENTIFIER:
        raise ValueError("no TFL3 identifier")
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for graph in model.subgraphs:
        count = len(graph.tensors)
        used = [int(t) for op in graph.operators for t in (*op.inputs, *op.outputs)]
        if any(not -1 <= t < count for t in used):
            raise ValueError("an operator names a tensor that is not there")
        if any(not 0 <= op.opcodeIndex < len(model.operatorCodes) for op in graph.operators):
            raise ValueError("an operator of no known kind")
        if any(not 0 <= tensor.buffer < len(model.buffers) for tensor in graph.tensors):
            raise ValueError("a tensor names a buffer that is not there")


def _onnx(artifact: Path) -> None:
    try:
        import onnx
    except ImportError:
        return  # ONNX Runtime alone is installed: its own loader has to do
    try:
        onnx.checker.check_model(onnx.load_from_string(artifact.read_bytes()))
    except Exception as error:  # protobuf and the checker share no narrower base
        raise ValueError(first_line(error)) from error


def _package(artifact: Path) -> None:
    listed = json.loads((artifact / "Manifest.json").read_text(encoding="utf-8"))
    for entry in listed["itemInfoEntries"].values():
        path = (artifact / "Data" / entry["path"]).resolve()
        if not path.is_relative_to(artifact.resolve()) or not path.exists():
            raise ValueError(f"{entry['path']} is missing")


def _compiled(artifact: Path) -> None:
    """Nothing here can look into a TensorRT plan."""


CHECKS: dict[str, Callable[[Path], None]] = {
    "onnx": _onnx,
    "tflite": _flatbuffer,
    "coreml": _package,
    "tensorrt": _compiled,
}
