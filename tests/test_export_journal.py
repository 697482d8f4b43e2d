"""What earlier runs made counts when all of it is still as it was."""

from __future__ import annotations

from pathlib import Path

from pockethdr.export.journal import Journal
from pockethdr.export.manifest import Artifact, FileRecord
from pockethdr.files import sha256_of


def kept(folder: Path) -> Journal:
    """An artifact of two files."""
    tile, context = folder / "a.onnx", folder / "a_context.onnx"
    tile.write_bytes(b"tile")
    context.write_bytes(b"context")
    record = FileRecord(context.name, sha256_of(context))
    journal = Journal(folder, "key")
    journal.keep_artifact(Artifact("onnx", "fp32", tile.name, sha256_of(tile), context=record))
    return journal


def test_an_artifact_that_is_whole_is_found(tmp_path: Path) -> None:
    found = kept(tmp_path).artifact("a.onnx")
    assert found is not None
    assert found.context is not None
    assert Journal(tmp_path, "another key").artifact("a.onnx") is None


def test_neither_of_its_files_may_be_missing_or_changed(tmp_path: Path) -> None:
    for name in ("a.onnx", "a_context.onnx"):
        journal = kept(tmp_path)
        (tmp_path / name).write_bytes(b"damaged")
        assert journal.artifact("a.onnx") is None
        (tmp_path / name).unlink()
        assert journal.artifact("a.onnx") is None


def test_a_damaged_journal_counts_for_nothing(tmp_path: Path) -> None:
    journal = kept(tmp_path)
    for damage in ("[]", "nothing"):
        (tmp_path / ".cache" / "cells.json").write_text(damage)
        assert journal.artifact("a.onnx") is None
        assert not journal.is_ours()
