"""The INT8 gate lets the shipped network through, and none of three that were broken on purpose.

A factor of 1.02 on every weight's scale leaves 42.8 dB on this bracket, and so passes. Such a
factor on activations is found by `imposed`, and on a layer by `debug`, in the tests of those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pockethdr.errors import PocketError
from pockethdr.export.manifest import Artifact, read_manifest, sha256_of, size_of, write_manifest
from pockethdr.export.pipeline import export_model
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import Recipe, named_recipe
from pockethdr.export.static import static_program
from pockethdr.export.targets import TARGETS
from pockethdr.export.tuned import chosen_recipe
from pockethdr.models.load import example_frames, load_model
from pockethdr.report import validate as validate_module
from pockethdr.report.row import Row

onnx = pytest.importorskip("onnx")

SIDE = 96
SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))
BROKEN = ("swapped", "last", "stale")


def edited(good: Path, path: Path, change: Callable[[Any, str], np.ndarray | None]) -> None:
    """The good artifact with the constants for which `change(array, name)` gives another."""
    model = onnx.load(good)
    for constant in model.graph.initializer:
        found = change(onnx.numpy_helper.to_array(constant), constant.name)
        if found is not None:
            constant.CopyFrom(onnx.numpy_helper.from_array(found, constant.name))
    onnx.save(model, path)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    out = tmp_path_factory.mktemp("gates")
    loaded = load_model("dsan-m32", domain="raw")
    recipe, tuned = chosen_recipe(loaded, None, None)
    assert tuned is not None
    manifest = export_model(
        loaded, targets=["onnx"], precisions=["int8"], bracket_folders=[SAMPLE], out=out,
        size=(SIDE, SIDE), recipe=recipe, patches=2, tuned=tuned, overwrite=True,
    )  # fmt: skip
    good = out / str(manifest.artifacts[0].file)
    program = tuned.program(static_program(loaded, size=(SIDE, SIDE)).program)

    def built(name: str, recipe: Recipe, ranges: dict[str, tuple[float, float]]) -> None:
        made = quantized(program, ranges, recipe, TARGETS["onnx"].scheme).program
        frames = example_frames("raw", SIDE, SIDE)
        TARGETS["onnx"].build(made, frames, "int8", out / f"{name}.onnx")

    def reversed_last(x: np.ndarray, name: str) -> np.ndarray | None:
        return x[::-1].copy() if name.startswith("out.") else None

    edited(good, out / "swapped.onnx", reversed_last)
    wide = {"sigmoid": (0.0, 1.0), "pixel_shuffle": (-12.0, 4.0), "conv2d_21": (-12.0, 4.0)}
    built("last", named_recipe("full"), {**wide, **tuned.ranges})
    built("stale", recipe, {k: (low / 3, high / 3) for k, (low, high) in tuned.ranges.items()})
    records = [
        Artifact(
            "onnx", "int8", f"{n}.onnx", sha256_of(out / f"{n}.onnx"), size_of(out / f"{n}.onnx")
        )
        for n in BROKEN
    ]
    whole = replace(read_manifest(out), artifacts=(*manifest.artifacts, *records))
    write_manifest(whole, out, overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate_module, "measure_artifact", _untimed)
        judged = validate_module.validate(out, [SAMPLE], threads=1)
    return dict(zip(("good", *BROKEN), judged, strict=True))


def _untimed(*_: object, **__: object) -> None:
    raise PocketError("no time")


def test_the_shipped_network_passes(rows: dict[str, Row]) -> None:
    assert rows["good"].passed is True, rows["good"]


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_does_not(rows: dict[str, Row], name: str) -> None:
    assert rows[name].executed
    assert rows[name].psnr_mu_vs_reference is not None, rows[name].reason
    assert rows[name].passed is False, rows[name].psnr_mu_vs_reference
