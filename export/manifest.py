"""`manifest.json`: what lies in an output folder.

Nothing here imports torch: the runtime reads manifests on machines that only run artifacts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pockethdr.brackets.bracket import CHANNELS
from pockethdr.errors import ArtifactError
from pockethdr.files import write_bytes

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
        extremes: lines of the network that look for a largest or smallest value of the image.
        spreads: those that take a variance or a mean of squares of it, as norms of images do.
    """

    channels: int
    values: tuple[str, ...]
    enlarged: tuple[str, ...] = ()
    grid: tuple[int, int] | None = None
    stride: int = 1
    extremes: tuple[str, ...] = ()
    spreads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError: a number that cannot be."""
        numbers = [self.channels, self.stride, *(self.grid or ())]
        if not all(isinstance(n, int) and n > 0 for n in numbers):
            raise ValueError(f"context of {self.channels} channels, {self.grid}, {self.stride}")

    @property
    def caveat(self) -> str:
        """A warning for users, without a full stop; empty for most networks."""
        asked = [("extremes", self.extremes), ("variances", self.spreads)]
        parts = [f"{what} of the whole image ({', '.join(at)})" for what, at in asked if at]
        if not parts:
            return ""
        coarse = ": look for them on a coarse grid (F.adaptive_avg_pool2d(x, 8)), or"
        return (
            f"{' and '.join(parts)} are taken from thumbnails, where averaging flattens them"
            f"{coarse if self.extremes else ':'} export at the --size of whole frames"
        )

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
    # A path that is not UTF-8 has surrogates, and what these become is their escape in JSON.
    content = manifest.to_json().encode(errors="backslashreplace")
    write_bytes(path, content, overwrite=overwrite)
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
        sizes = sorted(path.parent.glob(f"*x*/{MANIFEST_NAME}"))
        raise ArtifactError(
            f"no manifest at {path}",
            expected="the output folder of `pockethdr export`",
            fix="name one of its sizes: " + ", ".join(str(each.parent) for each in sizes)
            if sizes
            else f"pockethdr export MODEL --out {path.parent}",
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
    lists = ("values", "enlarged", "extremes", "spreads")
    names: dict[str, Any] = {key: tuple(raw.get(key, ())) for key in lists}
    return ContextRecord(**{**raw, **names, "grid": tuple(raw["grid"]) if raw["grid"] else None})


def _record(raw: dict[str, Any] | None) -> FileRecord | None:
    return None if raw is None else FileRecord(**raw)
