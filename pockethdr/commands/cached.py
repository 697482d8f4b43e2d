"""Reports that were made before, by the content of everything they depend on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pockethdr.files import sha256_of, write_bytes


def is_judged(out: Path, brackets: Path) -> bool:
    """Whether the report in `out` is of all that it would be made from now."""
    try:
        return _key_file(out).read_text() == _key(out, brackets)
    except OSError:
        return False


def remember(out: Path, brackets: Path) -> None:
    """Note what the report in `out` was made from."""
    write_bytes(_key_file(out), _key(out, brackets).encode(), overwrite=True)


def _key(out: Path, brackets: Path) -> str:
    """sha256 over the artifacts, the brackets, the report itself, this host and our own code."""
    from pockethdr.export.manifest import read_manifest
    from pockethdr.export.provenance import JUDGES, code_sha256
    from pockethdr.report.host import host

    artifacts = [out / a.file for a in read_manifest(out).artifacts if a.file]
    written = [out / name for name in ("manifest.json", "report.json", "report.html")]
    digest = hashlib.sha256(json.dumps(host(), sort_keys=True).encode())
    digest.update(code_sha256(JUDGES).encode())
    for path in (*artifacts, *written, brackets):
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()


def _key_file(out: Path) -> Path:
    return out / ".cache" / "judged.sha256"
