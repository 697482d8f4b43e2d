"""An INT8 artifact that the recipe leaves without an integer multiplication is not sold as INT8."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from judged_toy import NETWORK

from pockethdr.cli import main
from pockethdr.errors import PocketError
from pockethdr.export.targets import TargetError
from pockethdr.report import validate as validate_module

pytest.importorskip("onnxruntime")

SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))


def _exported(folder: Path, *options: str) -> Result:
    """Of a network with two convolutions: the first and the last."""
    (folder / "net.py").write_text(NETWORK)
    arguments = (
        "export", f"{folder / 'net.py'}:factory", "--brackets", SAMPLE, "--size", "96x96",
        "--out", folder / "out", "--targets", "onnx", "--precisions", "int8", *options,
    )  # fmt: skip
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_export_warns_and_validate_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def untimed(*_: object, **__: object) -> None:
        raise PocketError("no time")

    result = _exported(tmp_path)
    assert result.exit_code == 0, result.output
    assert "0% of its multiplications integer" in result.output
    assert "int8 by the default recipe, `hdr`; to lose less: --max-loss 0.1" in result.output
    assert "warning: nothing in net-factory_raw_int8.onnx multiplies integers" in result.output
    assert "try --recipe all-but-last" in result.output
    monkeypatch.setattr(validate_module, "measure_artifact", untimed)
    (row,) = validate_module.validate(tmp_path / "out", [SAMPLE], threads=1)
    assert "no multiplication on integers: recipe `hdr`" in str(row.reason)


def test_a_target_that_refuses_stops_no_other_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise TargetError("does not take this program")

    monkeypatch.setattr("pockethdr.export.coreml.build", refused)
    result = _exported(tmp_path, "--size", "64x64", "--targets", "onnx,coreml")
    assert result.exit_code == 2
    assert result.output.count("coreml    int8    skipped: does not take this program") == 2
    assert "coreml int8: does not take this program" in result.output
    for size in ("64x64", "96x96"):
        assert (tmp_path / "out" / size / "net-factory_raw_int8.onnx").exists()


def test_the_recipe_that_it_names_helps(tmp_path: Path) -> None:
    result = _exported(tmp_path, "--recipe", "all-but-last")
    assert result.exit_code == 0, result.output
    assert "86% of its multiplications integer" in result.output
    assert "default recipe" not in result.output
    assert "warning: nothing" not in result.output
