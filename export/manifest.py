"""`manifest.json`: what lies in an output folder, and how files get there whole or not at all.

Nothing here imports torch: the runtime reads manifests on machines that only run artifacts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pockethdr.brackets.bracket import CHANNELS
from pockethdr.errors import ArtifactError

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class FileRecord:
    """A file of the output folder, by relative name."""

    file: str
    sha256: str


@dataclass(frozen=True)
class ContextRecord:
    """What the tiles of a network that looks at the whole image are told of it.

    Attributes:
        channels: K of the 1×K×h×w that the context artifact returns, once a shot.
        grid: h, w of a map; None for a vector, 1×1.
        stride: pixels of the frame for each pixel of the enlarged map that tiles read.
        values: nodes of the rewritten program that it is cut behind.
        enlarged: those that enlarge maps, which tiles read instead; empty for vectors.
    """

    channels: int
    values: tuple[str, ...]
    enlarged: tuple[str, ...] = ()
    grid: tuple[int, int] | None = None
    stride: int = 1

    def shape_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """h, w of what a frame (or tile) of `size` reads."""
        if self.grid is None:
            return 1, 1
        return -(-size[0] // self.stride), -(-size[1] // self.stride)


@dataclass(frozen=True)
class Artifact:
    """One artifact, or the reason why this host could not build it.

    `context` is the artifact that has to run first, on thumbnails of the whole image.
    """

    target: str
    precision: str
    file: str | None
    sha256: str | None = None
    size_bytes: int | None = None
    layout: str = "NCHW"
    scheme: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    skipped: str | None = None
    context: FileRecord | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything a later stage needs to find, run and judge the artifacts of one export.

    `size` is H, W of the network's grid; `halo` is None when every output depends on every input.
    `tuned` names the weights of the INT8 artifacts where they are not those of the network.
    `context` says what a network that looks at the whole image computes once a shot; its tiles then
    have a halo.
    """

    model: str
    spec: str
    domain: str
    size: tuple[int, int]
    halo: int | None
    multiple: int
    channels: int
    output_channels: int
    weights: FileRecord | None
    graph_sha256: str
    calibration: FileRecord | None
    artifacts: tuple[Artifact, ...]
    recipe: dict[str, Any]
    rewrites: tuple[dict[str, Any], ...]
    refusals: tuple[dict[str, Any], ...]
    versions: dict[str, str]
    command: str
    inputs: tuple[str, ...] = ("short", "mid", "long")
    tuned: dict[str, Any] | None = None
    context: ContextRecord | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        """Raises ValueError: a number that cannot be."""
        sides = [self.multiple, *self.size]
        if len(self.size) != 2 or not all(isinstance(n, int) and n > 0 for n in sides):
            raise ValueError(f"size {self.size} and multiple {self.multiple}")
        if self.halo is not None and not (isinstance(self.halo, int) and self.halo >= 0):
            raise ValueError(f"halo {self.halo}")
        if self.domain not in CHANNELS:
            raise ValueError(f"domain {self.domain!r}")
        for artifact in self.artifacts:
            if artifact.layout not in LAYOUTS:
                raise ValueError(f"layout {artifact.layout!r} of {artifact.file}")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def manifest_path(folder: Path) -> Path:
    """The manifest of an output folder; a path that is already a manifest is returned as it is."""
    return folder if folder.name.endswith(".json") else folder / MANIFEST_NAME


def write_manifest(manifest: Manifest, folder: Path, *, overwrite: bool = False) -> Path:
    """Write `manifest` into `folder`, atomically."""
    path = manifest_path(folder)
    write_bytes(path, manifest.to_json().encode(), overwrite=overwrite)
    return path


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of `folder` (or the file itself).

    Raises:
        ArtifactError: it is missing, not JSON, of a newer schema, or lacks a field.
    """
    path = manifest_path(folder)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return _manifest_from(raw)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"no manifest at {path}",
            expected="the output folder of `pockethdr export`",
            fix="pockethdr export MODEL --out " + str(path.parent),
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is not a manifest of this version: {error}",
            expected=f"schema {SCHEMA}",
            fix="export again with --overwrite",
        ) from error


def _manifest_from(raw: dict[str, Any]) -> Manifest:
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"schema {raw.get('schema')!r}")
    unknown = set(raw) - {f.name for f in fields(Manifest)}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    tuples = {key: tuple(raw[key]) for key in ("size", "inputs", "rewrites", "refusals")}
    return Manifest(
        **{
            **raw,
            **tuples,
            "weights": _record(raw["weights"]),
            "calibration": _record(raw["calibration"]),
            "artifacts": tuple(artifact_from(artifact) for artifact in raw["artifacts"]),
            "context": _context(raw.get("context")),
        }
    )


def artifact_from(raw: dict[str, Any]) -> Artifact:
    """The artifact that `asdict` made `raw` of."""
    return Artifact(**{**raw, "context": _record(raw.get("context"))})


def _context(raw: dict[str, Any] | None) -> ContextRecord | None:
    if raw is None:
        return None
    names = {key: tuple(raw[key]) for key in ("values", "enlarged")}
    return ContextRecord(**{**raw, **names, "grid": tuple(raw["grid"]) if raw["grid"] else None})


def _record(raw: dict[str, Any] | None) -> FileRecord | None:
    return None if raw is None else FileRecord(**raw)


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, or of a folder's sorted `path\\0sha256\\n` lines."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    lines = hashlib.sha256()
    for name, file in sorted((p.relative_to(path).as_posix(), p) for p in _files_of(path)):
        lines.update(f"{name}\0{sha256_of(file)}\n".encode())
    return lines.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in _files_of(path))


def _files_of(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


def write_bytes(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a whole file or nothing."""
    with atomic_path(path, overwrite=overwrite) as partial:
        partial.write_bytes(data)


@contextlib.contextmanager
def atomic_path(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to, file or folder; it becomes `path` when the block ends well.

    The temporary name keeps the suffix, since converters look at it, and is the same for every run,
    so that what a killed run left behind is cleared by the next.

    Raises:
        ArtifactError: `path` exists and may not be overwritten, its folder cannot be written, or
            the disk is full. Whatever fails, `path` is as before and nothing is left beside it.
    """
    refuse_existing(path, overwrite)
    _check_name(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        refuse_existing(path, overwrite)
        _sync(partial)
        _swap(partial, path)
    except OSError as error:
        raise _explained(error, path) from error
    except Exception as error:
        # Native writers report a full disk as an error of their own.
        if _disk_is_full(path.parent):
            raise _explained(OSError(errno.ENOSPC, "no space left"), path) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises ArtifactError where something lies that may not be replaced."""
    if path.exists() and not overwrite:
        raise ArtifactError(
            f"{path} exists", expected="a new path", fix="add --overwrite, or choose another place"
        )


def check_place(path: Path, overwrite: bool) -> None:
    """Say at once what writing a file there would say after all the work.

    Raises:
        ArtifactError: `path` is a folder, exists and may not be overwritten, or cannot be written.
    """
    refuse_existing(path, overwrite)
    _check_name(path)
    _check_no_folder(path)
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Say before the work that nothing can be written into `folder`.

    Raises:
        ArtifactError: it is a file or below one, or this user may not write to it.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise _explained(NotADirectoryError(), folder)
    if not os.access(place, os.W_OK | os.X_OK):
        raise _explained(PermissionError(errno.EACCES, "permission denied"), folder)


def _check_name(path: Path) -> None:
    if not path.name:
        raise ArtifactError(f"{path}: no name", expected="a file or folder to write")


def _check_no_folder(path: Path) -> None:
    """Files replace files: whatever a user keeps in a folder of that name must stay."""
    if path.is_dir():
        raise ArtifactError(
            f"{path} is a folder", expected="a file name", fix="choose another name"
        )


def _explained(error: OSError, path: Path) -> ArtifactError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArtifactError(
            f"the disk is full: {path} was not written",
            fix="free some space, then run the same command again",
        )
    if isinstance(error, NotADirectoryError | FileExistsError):
        return ArtifactError(
            f"cannot write {path}: a file lies where a folder is needed", fix="choose another place"
        )
    return ArtifactError(
        f"cannot write {path}: {error.strerror or error}",
        expected="a folder that this user may write to",
        fix=f"check the permissions of {path.parent}, or choose another place",
    )


def _disk_is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 64 * 1024
    except OSError:
        return False


def _sync(path: Path) -> None:
    for file in _files_of(path):
        _fsync(file, os.O_RDWR)
    for folder in [path, *path.rglob("*")] if path.is_dir() else []:
        if folder.is_dir():
            _fsync(folder, os.O_RDONLY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(partial: Path, path: Path) -> None:
    """Rename; a folder in the way steps aside first, since a rename cannot replace one."""
    aside = path.with_name(f".{path.stem}.old{path.suffix}")
    if not partial.is_dir():
        _check_no_folder(path)
    if path.is_dir():
        _remove(aside)
        os.replace(path, aside)
    try:
        os.replace(partial, path)
    except OSError:
        if aside.exists():
            os.replace(aside, path)
        raise
    _fsync(path.parent, os.O_RDONLY)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
