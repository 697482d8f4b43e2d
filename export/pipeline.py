"""From a loaded network and brackets to an output folder: build, read back, record.

What an earlier run of the same settings left is not made again (`journal`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from pockethdr.calibration.calibration import Calibration
from pockethdr.errors import ArtifactError, PocketError, Unavailable, first_line
from pockethdr.export.context import context_example, split
from pockethdr.export.imposed import given_of, imposed, is_readable
from pockethdr.export.journal import Journal, is_intact
from pockethdr.export.kernels import int8_mac_share
from pockethdr.export.manifest import (
    MANIFEST_NAME,
    Artifact,
    FileRecord,
    Manifest,
    read_manifest,
    write_manifest,
)
from pockethdr.export.materials import CALIBRATION_NAME, Materials
from pockethdr.export.provenance import versions
from pockethdr.export.qparams import RangeError
from pockethdr.export.recipe import Recipe, named_recipe
from pockethdr.export.settings import Settings
from pockethdr.export.targets import PRECISIONS, Target, TargetError, target_of
from pockethdr.export.tuned import Tuned, chosen_recipe
from pockethdr.files import sha256_of, size_of
from pockethdr.models.load import Loaded
from pockethdr.models.trust import trust
from pockethdr.models.weights import save_weights

WEIGHTS_NAME = "weights.safetensors"


def export_model(
    loaded: Loaded,
    *,
    targets: Sequence[str],
    precisions: Sequence[str],
    bracket_folders: Sequence[Path],
    out: Path,
    size: tuple[int, int],
    recipe: Recipe | str | None = None,
    seed: int = 0,
    patches: int = 16,
    overwrite: bool = False,
    allow_dynamic: bool = False,
    tuned: Tuned | None = None,
    ray: str | None = None,
    calibration: Calibration | None = None,
    command: str = "",
    progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Write the artifacts of `loaded`, and `manifest.json`, into `out`.

    Args:
        targets, precisions: names from `targets.TARGETS`; a pair that a target does not have is
            left out.
        bracket_folders: to calibrate and to prove on; at least one.
        out: created when missing.
        size: H, W of the network's grid, which the artifacts are fixed to.
        recipe: what stays float in INT8, by name or as one; None takes that of `tuned`, or the
            tuning that ships with these very weights, as `pockethdr export` does, else `hdr`.
        seed, patches: of the calibration.
        overwrite: replace an export of other settings.
        allow_dynamic: go on although a convolution keeps a run-time kernel.
        tuned: weights and ranges for the INT8 artifacts, of these weights and this recipe.
        ray: calibrate on this Ray cluster, see `calibration.spread`; the result is the same.
        calibration: of this network at any size, instead of calibrating: INT8 artifacts of several
            sizes then compute the same.
        command: how to do this again, for the manifest.
        progress: called with a sentence before each stage.

    Raises:
        WeightsError: `tuned` is of other weights, or of another recipe.
        PartialExportError: a converter does not take the network. Artifacts of the others are
            written and in the manifest, where the refused ones have the reason.
        TargetError: no converter takes the network.
        PocketError: the network, a bracket or the folder cannot be used, or there is no such target
            or precision. No file is half-written; whole ones are taken up by the next run.
    """
    if not bracket_folders:
        raise PocketError(
            "no bracket to calibrate and to prove on",
            expected="at least one folder",
            fix="find_brackets(ROOT) gives those under a folder",
        )
    recipe = named_recipe(recipe) if isinstance(recipe, str) else recipe
    if tuned is not None:
        tuned.check_fits(loaded, recipe)
        recipe = recipe or tuned.recipe
    if recipe is None:
        recipe, tuned = chosen_recipe(loaded, None, None)
    settings = Settings(
        targets=tuple(targets),
        precisions=tuple(precisions),
        brackets=tuple(bracket_folders),
        size=size,
        recipe=recipe,
        seed=seed,
        patches=patches,
        allow_dynamic=allow_dynamic,
        tuned=tuned,
        ray=ray,
        calibration=calibration,
    )
    trust(loaded.spec)
    export = _Export(loaded, settings, out, progress or (lambda _: None))
    return export.run(overwrite=overwrite, command=command)


class PartialExportError(TargetError):
    """Converters refuse the network; the rest of what was asked for is written.

    Attributes:
        manifest: what is there.
    """

    def __init__(self, refused: dict[str, TargetError], out: Path, manifest: Manifest) -> None:
        first = next(iter(refused.values()))
        said = "\n".join(f"{cell}: {error.what}" for cell, error in refused.items())
        what = f"{said}\nwhat else was asked for is in {out}"
        super().__init__(what, expected=first.expected, fix=first.fix)
        self.manifest = manifest


class _Export:
    """The artifacts of one network in one folder."""

    def __init__(
        self, loaded: Loaded, settings: Settings, out: Path, say: Callable[[str], None]
    ) -> None:
        self.loaded, self.settings, self.out, self.say = loaded, settings, out, say
        self._refused = dict[str, TargetError]()

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.out, self.settings.key(self.loaded))

    @cached_property
    def materials(self) -> Materials:
        return Materials(self.loaded, self.settings, self.journal, self.say)

    def run(self, *, overwrite: bool, command: str) -> Manifest:
        cells = self._cells()
        before = self._earlier(overwrite)
        if before is not None and self._complete(before, cells):
            return before
        _ = self.materials.sight  # a size that leaves no tile is refused before anything is built
        artifacts = tuple(self._cell(target, precision) for target, precision in cells)
        artifacts += self._others(before, artifacts)
        if len(self._refused) == len(cells):
            raise next(iter(self._refused.values()))
        manifest = self._manifest(artifacts, command)
        self.journal.keep(write_manifest(manifest, self.out, overwrite=True))
        if self._refused:
            raise PartialExportError(self._refused, self.out, manifest)
        return manifest

    def _cells(self) -> list[tuple[Target, str]]:
        """The artifacts to make, as target and precision."""
        targets, precisions = self.settings.targets, self.settings.precisions
        unknown = sorted(set(precisions) - set(PRECISIONS))
        if unknown:
            raise PocketError(
                f"no precision is called {', '.join(unknown)}", expected=", ".join(PRECISIONS)
            )
        cells = [
            (target_of(name), precision)
            for name in targets
            for precision in precisions
            if precision in target_of(name).precisions
        ]
        if not cells:
            raise PocketError(
                f"no target among {', '.join(targets)} has {', '.join(precisions)}",
                expected="a pair from the table of `pockethdr doctor`",
            )
        return cells

    # ---- what was there before

    def _earlier(self, overwrite: bool) -> Manifest | None:
        """The manifest of a finished run of the same settings; others need `overwrite`."""
        path = self.out / MANIFEST_NAME
        if not path.exists():
            self._check_spared(overwrite)
            return None
        if self.journal.has(path):
            return read_manifest(self.out)
        if not overwrite and not self.journal.is_ours():
            raise ArtifactError(
                f"{self.out} holds an export of {read_manifest(self.out).spec} with other settings",
                expected="an empty folder, or one written by the same command",
                fix="choose another --out, or add --overwrite",
            )
        return None

    def _check_spared(self, overwrite: bool) -> None:
        """Refuse to replace files of these names that no export has made.

        Raises:
            ArtifactError: there is one.
        """
        names = [WEIGHTS_NAME]
        given = self.settings.calibration
        if "int8" in self.settings.precisions and not (given and self._holds(given)):
            names.append(CALIBRATION_NAME)
        theirs = [name for name in names if (self.out / name).exists()]
        if theirs and not overwrite and not self.journal.is_ours():
            raise ArtifactError(
                f"{self.out} holds {' and '.join(theirs)} that no export has written",
                expected="an empty folder, or one written by the same command",
                fix="choose another --out, or add --overwrite to replace it",
            )

    def _holds(self, calibration: Calibration) -> bool:
        """Whether the folder has the file of a calibration already, made by `calibrate`."""
        path = self.out / CALIBRATION_NAME
        return path.is_file() and path.read_bytes() == calibration.to_json().encode()

    def _others(
        self, before: Manifest | None, artifacts: Sequence[Artifact]
    ) -> tuple[Artifact, ...]:
        """What an earlier run of the same settings made that this one was not asked for."""
        asked = {(a.target, a.precision) for a in artifacts}
        return tuple(
            a
            for a in (before.artifacts if before else ())
            if (a.target, a.precision) not in asked and a.file and self.journal.artifact(a.file)
        )

    def _complete(self, manifest: Manifest, cells: Sequence[tuple[Target, str]]) -> bool:
        """Whether every cell is there and intact, or still cannot be built here."""
        there = {(a.target, a.precision): a for a in manifest.artifacts}
        if not {(target.name, precision) for target, precision in cells} <= set(there):
            return False
        if any(a.skipped and _buildable(target_of(a.target)) for a in manifest.artifacts):
            return False
        files = [(a.file, a.sha256) for a in manifest.artifacts if a.file]
        contexts = [a.context for a in manifest.artifacts]
        known = (manifest.weights, manifest.calibration, *contexts)
        records = [(r.file, r.sha256) for r in known if r]
        return all(is_intact(self.out / name, sha256) for name, sha256 in [*files, *records])

    # ---- one artifact

    def _cell(self, target: Target, precision: str) -> Artifact:
        name = f"{self.loaded.name}_{self.loaded.domain}_{precision}{target.suffix}"
        before = self.journal.artifact(name)
        if before is not None:
            return before
        try:
            artifact = self._built(target, precision, name)
        except (TargetError, RangeError) as error:  # of this cell: others may well take the network
            refused = TargetError(error.what, expected=error.expected, fix=error.fix)
            self._refused[f"{target.name} {precision}"] = refused
            return _unbuilt(target, precision, first_line(error))
        self.journal.keep_artifact(artifact)
        return artifact

    def _built(self, target: Target, precision: str, name: str) -> Artifact:
        integer = precision == "int8"
        scheme = target.scheme.to_json() if integer else {}
        try:
            target.require()
            program, account = self._program(target, precision)
            self.say(f"building {target.name} {precision}")
            parts = self._parts(program, self.out / name)
            checks, *_ = [_file(target, part, precision) for part in parts]
            if integer and is_readable(target.name):
                checks |= _read_back(target, parts)
        except Unavailable as missing:
            return _unbuilt(target, precision, f"{missing.reason}; {missing.install}")
        path = self.out / name
        return Artifact(
            target.name, precision, name, sha256_of(path), size_of(path),
            target.layout, scheme, {**account, **checks},
            context=self._record(parts[1].path.name) if len(parts) > 1 else None,
        )  # fmt: skip

    def _program(self, target: Target, precision: str) -> tuple[fx.GraphModule, dict[str, Any]]:
        """What is built, and for INT8 the account of what stays float."""
        if precision != "int8":
            return self.materials.static.program, {}
        made = self.materials.quantized(target.scheme)
        return made.program, {"float": made.floats}

    def _parts(self, program: fx.GraphModule, path: Path) -> list[_Part]:
        """A program as one file, or cut in two: the tiles, and what runs once a shot."""
        frames, cut = self.materials.frames, self.materials.cut
        if cut is None:
            return [_Part(program, frames, path)]
        first, tile = split(program, cut.record)
        context = path.with_name(f"{path.stem}_context{path.suffix}")
        example = context_example(cut.record, self.settings.size)
        return [_Part(tile, (*frames, example), path), _Part(first, frames, context)]

    # ---- the record of it

    def _manifest(self, artifacts: tuple[Artifact, ...], command: str) -> Manifest:
        loaded, made = self.loaded, self.materials
        done, cut = made.static.to_json(), made.cut
        sight = cut.sight if cut else made.sight
        output = made.static.program.graph.output_node().args[0]
        assert isinstance(output, torch.fx.Node)
        save_weights(self.out / WEIGHTS_NAME, loaded.module, loaded.header or {})
        return Manifest(
            model=loaded.name,
            spec=loaded.spec,
            domain=loaded.domain,
            size=self.settings.size,
            halo=sight.radius,
            multiple=sight.multiple,
            channels=made.frames[0].shape[1],
            output_channels=output.meta["val"].shape[1],
            weights=self._record(WEIGHTS_NAME),
            graph_sha256=made.graph_sha256,
            calibration=self._calibration(),
            artifacts=artifacts,
            recipe=self.settings.recipe.to_json(),
            tuned=self.settings.tuning,
            rewrites=(*done["rewrites"], *([asdict(cut.proof)] if cut else [])),
            context=cut.record if cut else None,
            refusals=tuple(done["refusals"]),
            versions=versions(),
            command=command,
        )

    def _calibration(self) -> FileRecord | None:
        if "int8" not in self.settings.precisions:
            kept = self.journal.has(self.out / CALIBRATION_NAME)  # of an earlier run
            return self._record(CALIBRATION_NAME) if kept else None
        _ = self.materials.calibration  # is written where no target could be built with it
        return self._record(CALIBRATION_NAME)

    def _record(self, name: str) -> FileRecord:
        return FileRecord(name, sha256_of(self.out / name))


@dataclass(frozen=True)
class _Part:
    """One file of an artifact: what it is made of, examples of its inputs, and where it goes."""

    program: fx.GraphModule
    inputs: tuple[Tensor, ...]
    path: Path


def _unbuilt(target: Target, precision: str, reason: str) -> Artifact:
    scheme = target.scheme.to_json() if precision == "int8" else {}
    return Artifact(
        target.name, precision, None, layout=target.layout, scheme=scheme, skipped=reason
    )


def _file(target: Target, part: _Part, precision: str) -> dict[str, Any]:
    """Build one file; its checks, for INT8 with the share that was planned to be integer."""
    planned = {"planned_int8_mac_share": int8_mac_share(part.program)}
    found = target.build(part.program, part.inputs, precision, part.path, overwrite=True)
    return found | (planned if precision == "int8" else {})


def _read_back(target: Target, parts: Sequence[_Part]) -> dict[str, Any]:
    """What the converter was given, and what the files hold of it."""
    given = given_of([part.program for part in parts], target.name)
    found = imposed([part.path for part in parts], target.name, given)
    return {"given": given.to_json(), "ranges": found.to_json()}


def _buildable(target: Target) -> bool:
    try:
        target.require()
    except Unavailable:
        return False
    return True
