"""The tables of idioms: figures of artifacts that ran, and reasons for those that are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import idioms

for _module in ("onnx", "litert_torch", "coremltools"):
    pytest.importorskip(_module)


def _page() -> tuple[str, list[str]]:
    """What is printed of one idiom, and the cells of its row."""
    done = CliRunner().invoke(idioms.main, ["--only", "ECA"], catch_exceptions=False)
    (row,) = (line for line in done.output.splitlines() if line.startswith("| ECA |"))
    return done.output, [cell.strip() for cell in row.strip("|").split("|")[1:]]


def test_every_artifact_of_an_idiom_is_run() -> None:
    _, row = _page()
    floats, integers = row[::2], row[1::2]
    assert min(float(cell) for cell in floats if cell != "identical") > 120
    assert all(45 < float(cell) < 80 for cell in integers)


def test_what_a_target_does_not_take_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from pockethdr.export.targets import TargetError

    def refused(*_: object) -> None:
        raise TargetError("it is Tuesday", expected="another day")

    monkeypatch.setattr(idioms, "_artifact", refused)
    page, row = _page()
    assert row == [f"– [^{number}]" for number in range(1, 7)]
    assert "[^2]: ECA, ONNX int8: it is Tuesday" in page
