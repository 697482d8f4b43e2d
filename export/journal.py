"""What runs of an export have made in a folder, so that a second one takes seconds, and one after
a kill goes on where that stopped.

A file counts when it was made under the same key, the hash of all that goes into it, and is still
what was recorded.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pockethdr.export.manifest import Artifact, artifact_from
from pockethdr.files import sha256_of, write_bytes

_NAME = ".cache/cells.json"


class Journal:
    """The entries of one folder under one key; those of another key count for nothing."""

    def __init__(self, out: Path, key: str) -> None:
        self.out, self.key = out, key

    def is_ours(self) -> bool:
        """Whether the last run here had the same key."""
        return self._read().get("key") == self.key

    def artifact(self, name: str) -> Artifact | None:
        """The artifact of that file name, when it is here and intact."""
        record = self._entries("artifacts").get(name)
        if record is None:
            return None
        artifact = artifact_from(record)
        files = [(name, artifact.sha256)]
        if artifact.context is not None:
            files.append((artifact.context.file, artifact.context.sha256))
        return artifact if all(is_intact(self.out / f, sha256) for f, sha256 in files) else None

    def keep_artifact(self, artifact: Artifact) -> None:
        """Remember an artifact; one that could not be built is no entry."""
        if artifact.file is not None:
            self._add("artifacts", artifact.file, asdict(artifact))

    def has(self, path: Path) -> bool:
        """Whether a file that is no artifact is here and intact."""
        sha256 = self._entries("files").get(path.name)
        return sha256 is not None and is_intact(path, sha256)

    def keep(self, path: Path) -> None:
        """Remember a file that is no artifact."""
        self._add("files", path.name, sha256_of(path))

    def _entries(self, kind: str) -> dict[str, Any]:
        known = self._read()
        return dict(known.get(kind, {})) if known.get("key") == self.key else {}

    def _add(self, kind: str, name: str, entry: Any) -> None:
        known = {k: self._entries(k) for k in ("artifacts", "files")}
        known[kind][name] = entry
        text = json.dumps({"key": self.key, **known}, indent=1)
        write_bytes(self.out / _NAME, text.encode(), overwrite=True)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads((self.out / _NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def is_intact(path: Path, sha256: str | None) -> bool:
    """Whether a file or package folder is there, and as it was."""
    return path.exists() and sha256_of(path) == sha256
