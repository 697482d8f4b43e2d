"""The networks that DSAN is compared with, through the real converters and runtimes.

Shallow forms hold every kind of layer of their network; the whole ones are in the slow tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import export_toy as nets
import numpy as np
import pytest
import torch
from torch import Tensor, fx

from pockethdr.export.aten import op_counts
from pockethdr.export.imposed import given_of, imposed
from pockethdr.export.kernels import int8_mac_share
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import named_recipe
from pockethdr.export.rewrite import Rewritten
from pockethdr.export.static import static_program
from pockethdr.export.targets import TARGETS
from pockethdr.models import zoo
from pockethdr.models.load import Loaded, example_frames
from pockethdr.runtime.runner import open_runner

_SHALLOW: dict[str, dict[str, Any]] = {
    "ahdrnet-mobile": {"blocks": 1, "layers": 3},
    "ahdrnet-paper": {"channels": 16, "growth": 8, "blocks": 1, "layers": 2},
    "deephdr-mobile": {"blocks": 1},
    "deephdr-bench": {"widths": (16, 16, 16), "blocks": 1},
    "deephdr-paper": {"widths": (16, 16, 16), "blocks": 1},
    "nhdrrnet-mobile": {"blocks": 1},
    "nhdrrnet-bench": {"widths": (16, 16, 16), "blocks": 1},
    "nhdrrnet-paper": {"widths": (8, 16, 16, 16), "blocks": 1},
}
_MOBILE = [name for name in _SHALLOW if name.endswith("mobile")]
_CPU_TARGETS = ("onnx", "tflite", "coreml")


@dataclass(frozen=True)
class Prepared:
    """A network's rewritten program, and what PyTorch makes of the frames."""

    static: Rewritten
    frames: tuple[Tensor, ...]
    expected: np.ndarray

    @property
    def program(self) -> fx.GraphModule:
        return self.static.program


@cache
def _prepared(name: str, *, whole: bool = False, size: int = 64) -> Prepared:
    torch.manual_seed(0)
    config = zoo.variant(name).config
    module = zoo.network(config if whole else replace(config, **_SHALLOW[name])).eval()
    ends = [p for n, p in module.named_parameters() if n.startswith("out") and p.ndim == 4]
    with torch.no_grad():  # an untrained output is nearly one grey
        ends[-1].mul_(8)
    loaded = Loaded(name, name, "raw", module.requires_grad_(False))
    frames = example_frames("raw", size, size)
    return Prepared(static_program(loaded, size=(size, size)), frames, nets.run(module, frames))


def _artifact(name: str, target: str, precision: str, folder: Path, **size: Any) -> Any:
    """Build and run: the artifact's output, what its program computes, and the checks."""
    made, row = _prepared(name, **size), TARGETS[target]
    program, given = made.program, None
    if precision == "int8":
        ranges = nets.ranges_of(program, made.frames)
        program = quantized(program, ranges, named_recipe("hdr"), row.scheme).program
        given = given_of([program], target)
    path = folder / f"net{row.suffix}"
    checks = row.build(program, made.frames, precision, path)
    if given is not None:
        found = imposed([path], target, given)
        assert (found.foreign, found.missing) == ((), ())
        assert checks["int8_mac_share"] >= int8_mac_share(program) - 1e-9
    runner = open_runner(path, target, threads=1)
    try:
        output = runner.run(tuple(frame.numpy() for frame in made.frames))
    finally:
        runner.close()
    return output, nets.run(program, made.frames), checks


def _db(value: np.ndarray, expected: np.ndarray) -> float:
    """Error against the spread of what is expected: what a picture of little contrast hides."""
    return nets.psnr(value, expected) + 10 * float(np.log10(expected.var()))


@pytest.mark.parametrize("name", _SHALLOW)
def test_programs_are_exact_and_hold_what_phones_run(name: str) -> None:
    made = _prepared(name)
    assert all(proof.holds() for proof in made.static.proofs)
    assert _db(nets.run(made.program, made.frames), made.expected) > 80
    kinds = set(op_counts(made.program))
    disliked = ("batch_norm", "adaptive", "pad", "unshuffle", "index", "expand")
    assert not [kind for kind in kinds if any(word in kind for word in disliked)]


@pytest.mark.parametrize(
    "name",
    [
        "ahdrnet-mobile",
        "deephdr-mobile",
        "deephdr-paper",
        "nhdrrnet-mobile",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("ahdrnet-paper", "deephdr-bench", "nhdrrnet-bench", "nhdrrnet-paper")
        ),
    ],
)
def test_tflite_int8_computes_what_its_program_says(name: str, tmp_path: Path) -> None:
    """A concatenation of clipped operands left 3 dB of 38."""
    pytest.importorskip("litert_torch")
    output, pairs, checks = _artifact(name, "tflite", "int8", tmp_path)
    assert _db(output, pairs) > 33
    assert _db(output, _prepared(name).expected) > 20
    assert checks["int8_mac_share"] > 0.1
    assert not {"CONV_2D", "TRANSPOSE_CONV", "CONCATENATION"} & set(checks["undelegated"])


@pytest.mark.parametrize(
    ("name", "precision"),
    [("ahdrnet-paper", "fp16"), ("deephdr-paper", "int8"), ("nhdrrnet-bench", "int8")],
)
def test_onnx(name: str, precision: str, tmp_path: Path) -> None:
    """INT8 in front of slices (reflected edges) and reshapes (attention) must load, too."""
    pytest.importorskip("onnxruntime")
    output, pairs, _ = _artifact(name, "onnx", precision, tmp_path)
    assert _db(output, _prepared(name).expected) > (50 if precision == "fp16" else 20)
    assert _db(output, pairs) > 33


def test_coreml_fp16(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    output, _, _ = _artifact("nhdrrnet-mobile", "coreml", "fp16", tmp_path)
    assert _db(output, _prepared("nhdrrnet-mobile").expected) > 35


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("target", _CPU_TARGETS)
@pytest.mark.parametrize("name", _MOBILE)
def test_whole_mobile_networks(name: str, target: str, precision: str, tmp_path: Path) -> None:
    size = {"whole": True, "size": 128}
    output, _, checks = _artifact(name, target, precision, tmp_path, **size)
    assert _db(output, _prepared(name, **size).expected) > (35 if precision == "fp16" else 20)
    assert precision == "fp16" or checks["int8_mac_share"] > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", _SHALLOW)
def test_tensorrt_plans_are_built(name: str, precision: str, tmp_path: Path) -> None:
    row, made = TARGETS["tensorrt"], _prepared(name)
    row.require()
    program = made.program
    if precision == "int8":
        ranges = nets.ranges_of(program, made.frames)
        program = quantized(program, ranges, named_recipe("hdr"), row.scheme).program
    checks = row.build(program, made.frames, precision, tmp_path / "net.plan")
    assert (tmp_path / "net.plan").stat().st_size > 10_000
    assert not checks.get("lint")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ahdrnet-paper", "deephdr-bench", "nhdrrnet-bench"])
def test_whole_published_networks(name: str, tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    size = {"whole": True, "size": 128}
    output, _, checks = _artifact(name, "tflite", "int8", tmp_path, **size)
    assert _db(output, _prepared(name, **size).expected) > 20
    assert checks["int8_mac_share"] > 0.7
