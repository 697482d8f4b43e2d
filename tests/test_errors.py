"""What errors say, those of others included."""

from __future__ import annotations

from pathlib import Path

import export_toy as nets
import pytest

from pockethdr.errors import first_line
from pockethdr.export import coreml, onnx, tflite
from pockethdr.export.targets import TargetError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one"), "one"),
        (ValueError("\n  one\nand two"), "one"),
        (AssertionError(), "AssertionError"),
        (KeyError(""), "''"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_the_first_line_is_never_empty(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_an_error_without_words_may_be_described() -> None:
    assert first_line(AssertionError(), otherwise="no message") == "no message"
    assert first_line(AssertionError("some"), otherwise="no message") == "some"


@pytest.mark.parametrize(
    ("converter", "does"),
    [
        (onnx, "torch.onnx.export"),
        (tflite, "pockethdr.export.tflite.ChannelsLast"),
        (coreml, "pockethdr.export.coreml._mlpackage_from_program"),
    ],
)
def test_a_converter_that_fails_without_a_word_is_named(
    converter, does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bare(*_args: object, **_options: object) -> None:
        raise AssertionError

    program, frames = nets.toy(), nets.frames()
    monkeypatch.setattr(does, bare)
    with pytest.raises(TargetError, match="does not take this program: AssertionError"):
        converter.build(program, frames, "fp32", tmp_path / "artifact")
    assert not list(tmp_path.iterdir())
