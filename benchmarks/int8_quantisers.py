"""The tools' own INT8 quantisers, called as their documentation does, with their defaults."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from int8 import Array

from pockethdr.export import coreml, onnx, tflite
from pockethdr.export.manifest import Manifest
from pockethdr.export.targets import input_names
from pockethdr.report.layers import float_program


@dataclass(frozen=True)
class Given:
    """What a tool works on: an FP32 artifact, the export it is of, and calibration inputs."""

    fp32: Path
    out: Path
    manifest: Manifest
    tiles: list[list[Array]]

    @property
    def named(self) -> list[dict[str, Array]]:
        """The calibration inputs by name, N×C×H×W."""
        return [dict(zip(input_names(tile), tile, strict=True)) for tile in self.tiles]


@dataclass(frozen=True)
class Tool:
    """A quantiser of others: `make(given, path)` writes `path`."""

    name: str
    target: str
    precision: str
    needs: str
    install: str
    make: Callable[[Given, Path], None]


# ---- LiteRT


def _channels_last(given: Given) -> list[dict[str, Array]]:
    return [
        {name: np.ascontiguousarray(x.transpose(0, 2, 3, 1)) for name, x in sample.items()}
        for sample in given.named
    ]


def litert_static(given: Given, path: Path) -> None:
    from litert_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(given.fp32), recipe.static_wi8_ai8())
    calibrated = made.calibrate({"serving_default": _channels_last(given)}, num_threads=1)
    made.quantize(calibrated).export_model(str(path))


def litert_dynamic(given: Given, path: Path) -> None:
    from litert_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(given.fp32), recipe.dynamic_wi8_afp32())
    made.quantize().export_model(str(path))


def pt2e(given: Given, path: Path) -> None:
    import litert_torch
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    network = tflite.ChannelsLast(float_program(given.out, given.manifest, "fp32").tile)
    samples = [{k: torch.from_numpy(v) for k, v in s.items()} for s in _channels_last(given)]
    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    exported = torch.export.export(network, (), kwargs=samples[0]).module()
    prepared = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for sample in samples:
            prepared(**sample)
    made = convert_pt2e(prepared, fold_quantize=False)
    config = QuantConfig(pt2e_quantizer=quantizer)
    model = litert_torch.convert(made, sample_kwargs=samples[0], quant_config=config)
    path.write_bytes(model.model_content())


# ---- ONNX


def ort_static(given: Given, path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(given.named)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.samples, None)

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(str(given.fp32), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(path), Reader())


def ort_dynamic(given: Given, path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(str(given.fp32), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(path))


def modelopt(given: Given, path: Path, python: str = sys.executable) -> None:
    copy, data = path.with_name("copy.onnx"), path.with_name("data.npz")
    shutil.copy(given.fp32, copy)
    np.savez(data, **{k: np.concatenate([s[k] for s in given.named]) for k in given.named[0]})
    worker = Path(__file__).with_name("modelopt_worker.py")
    done = subprocess.run(
        [python, str(worker), str(copy), str(data), str(path)], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])


# ---- Core ML


def coreml_weights(given: Given, path: Path) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    model = ct.models.MLModel(str(given.fp32), skip_model_load=True)
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig())
    cto.linear_quantize_weights(model, config).save(str(path))


def coreml_w8a8(given: Given, path: Path) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    model = ct.models.MLModel(str(given.fp32))
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig())
    quantised = cto.linear_quantize_activations(model, config, given.named)
    cto.linear_quantize_weights(quantised, config).save(str(path))


_LITERT, _ONNX = "pip install 'pockethdr[tflite-build]'", "pip install 'pockethdr[onnx]'"
_COREML = "pip install 'pockethdr[coreml]'"
_MODELOPT = (
    "in an environment of its own: pip install nvidia-modelopt==0.47.0 onnx onnxruntime polygraphy "
    "onnx-graphsurgeon==0.6.1 onnxscript onnxslim onnxconverter-common lief; then --modelopt "
    "ITS/bin/python"
)
TOOLS = (
    Tool("litert_quantizer static", "tflite", "int8", "litert_quantizer", _LITERT, litert_static),
    Tool("litert_quantizer dynamic", "tflite", "dynint8", "litert_quantizer", _LITERT,
         litert_dynamic),
    Tool("PT2E, litert-torch", "tflite", "int8", "torchao", _LITERT, pt2e),
    Tool("ONNX Runtime quantize_static", "onnx", "int8", "onnxruntime", _ONNX, ort_static),
    Tool("ONNX Runtime quantize_dynamic", "onnx", "dynint8", "onnxruntime", _ONNX, ort_dynamic),
    Tool("ModelOpt", "onnx", "int8", "modelopt", _MODELOPT, modelopt),
    Tool("coremltools, weights only", "coreml", "int8 weights", "coremltools", _COREML,
         coreml_weights),
    Tool("coremltools W8A8", "coreml", "int8", "coremltools", _COREML, coreml_w8a8),
)  # fmt: skip


def tools_with(modelopt_python: Path | None) -> tuple[Tool, ...]:
    """The tools, ModelOpt run by an interpreter of its own: its needs clash with the others'."""
    if modelopt_python is None:
        return TOOLS
    make = partial(modelopt, python=str(modelopt_python))
    return tuple(
        replace(tool, needs="subprocess", make=make) if tool.make is modelopt else tool
        for tool in TOOLS
    )


def integer_share(path: Path, target: str, precision: str) -> float:
    """The share of multiplications that the file's kernels do on integers, as for our artifacts."""
    if target == "tflite":
        share = tflite.checks(path.read_bytes(), precision)["int8_mac_share"]
    elif target == "onnx":
        import onnx as format_

        share = onnx.checks(format_.load(str(path)), precision)["int8_mac_share"]
    else:
        share = coreml.checks(path, "int8")["int8_mac_share"]
    return float(share)
