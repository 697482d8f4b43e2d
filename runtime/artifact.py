"""An artifact and what the manifest beside it says, checked before native code reads the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pockethdr.errors import ArtifactError
from pockethdr.export.manifest import Artifact, Manifest, manifest_path, read_manifest
from pockethdr.export.targets import TARGETS
from pockethdr.files import sha256_of

_TARGET_OF_SUFFIX = {target.suffix: target.name for target in TARGETS.values()}


@dataclass(frozen=True)
class Deployed:
    """An artifact whose content is what its manifest says."""

    path: Path
    manifest: Manifest
    record: Artifact


def deployed(path: Path) -> Deployed:
    """The artifact at `path` with its manifest, the content checked against the recorded sha256.

    Raises:
        ArtifactError: no such artifact, no manifest, not listed in it, or of other content.
    """
    found = deployed_if_listed(path)
    if found is None:
        raise ArtifactError(
            f"{path}: no {manifest_path(path.parent).name} beside it",
            expected="an artifact inside its export folder",
            fix="copy the whole folder that `pockethdr export` wrote, not the one file",
        )
    return found


def deployed_if_listed(path: Path) -> Deployed | None:
    """As `deployed`, but None when no manifest lies beside the artifact.

    Raises:
        ArtifactError: no such artifact, not listed in its manifest, or of other content.
    """
    if not path.exists():
        raise ArtifactError(f"{path}: no such artifact", expected="a path that export wrote")
    if path.suffix not in _TARGET_OF_SUFFIX and manifest_path(path).is_file():
        files = [a.file for a in read_manifest(path).artifacts if a.file]
        raise ArtifactError(
            f"{path}: a whole export",
            expected=f"one of its artifacts: {', '.join(files)}",
            fix=f"{manifest_path(path).parent / files[0]}" if files else "",
        )
    if not manifest_path(path.parent).is_file():
        return None
    manifest = read_manifest(path.parent)
    record = _record_of(path, manifest)
    found = sha256_of(path)
    if found != record.sha256:
        raise ArtifactError(
            f"{path}: its content is not what was exported "
            f"(sha256 {found[:12]}…, manifest {str(record.sha256)[:12]}…)",
            expected="the artifact as `pockethdr export` wrote it",
            fix="it is damaged, stale or changed: copy the whole folder again, or export again",
        )
    return Deployed(path, manifest, record)


def target_of(path: Path) -> str:
    """The target that an artifact's suffix names.

    Raises:
        ArtifactError: the suffix belongs to none.
    """
    if path.suffix not in _TARGET_OF_SUFFIX:
        raise ArtifactError(
            f"{path}: unknown kind of artifact {path.suffix!r}",
            expected=", ".join(_TARGET_OF_SUFFIX),
        )
    return _TARGET_OF_SUFFIX[path.suffix]


def _record_of(path: Path, manifest: Manifest) -> Artifact:
    for record in manifest.artifacts:
        if record.file == path.name:
            return record
    raise ArtifactError(
        f"{path}: not listed in {manifest_path(path.parent)}",
        expected="an artifact of that export",
        fix="export again; files left over from earlier runs are not trusted",
    )
