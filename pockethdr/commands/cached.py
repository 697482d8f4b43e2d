"""Rows that were judged before, by the content of everything they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pockethdr.files import sha256_of, write_bytes

if TYPE_CHECKING:
    from pockethdr.report.row import Row

ROOMS = (
    "",
    "brackets",
    "models",
    "export",
    "export.rewrites",
    "calibration",
    "runtime",
    "report",
)


def judged_rows(out: Path, brackets: Path) -> list[Row] | None:
    """The rows of the report in `out`, or None when anything it was made from has changed."""
    from pockethdr.report.row import Row

    try:
        if _key_file(out).read_text() != _key(out, brackets):
            return None
        raw = json.loads((out / "report.json").read_text(encoding="utf-8"))
        return [Row.from_json(row) for row in raw["rows"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember(out: Path, brackets: Path) -> None:
    """Note what the report in `out` was made from."""
    write_bytes(_key_file(out), _key(out, brackets).encode(), overwrite=True)


def _key(out: Path, brackets: Path) -> str:
    """sha256 over the artifacts, the brackets, the report itself, this host and our own code."""
    from pockethdr.export.manifest import read_manifest
    from pockethdr.report.host import host

    artifacts = [out / a.file for a in read_manifest(out).artifacts if a.file]
    written = [out / name for name in ("manifest.json", "report.json", "report.html")]
    digest = hashlib.sha256(json.dumps(host(), sort_keys=True).encode())
    for path in (*artifacts, *written, brackets, *_sources()):
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()


def _sources() -> Iterable[Path]:
    for room in ROOMS:
        folder = files(f"pockethdr.{room}".rstrip("."))
        yield from sorted(Path(str(f)) for f in folder.iterdir() if f.name.endswith(".py"))


def _key_file(out: Path) -> Path:
    return out / ".cache" / "judged.sha256"
