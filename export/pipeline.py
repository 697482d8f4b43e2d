"""From a loaded network and brackets to an output folder: rewrite, calibrate, build, record.

What an earlier run of the same settings left is not made again (`journal`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.read import read_bracket
from pockethdr.calibration.calibration import Calibration, CalibrationError
from pockethdr.calibration.observe import program_sha256
from pockethdr.calibration.spread import calibrator
from pockethdr.errors import ArtifactError, PocketError, Unavailable
from pockethdr.export.coding import with_input_gains
from pockethdr.export.context import Cut, context_example, find_cut, split
from pockethdr.export.imposed import given_of_program, imposed, is_readable
from pockethdr.export.journal import Journal, is_intact
from pockethdr.export.lowering import Form
from pockethdr.export.manifest import (
    MANIFEST_NAME,
    Artifact,
    FileRecord,
    Manifest,
    read_manifest,
    sha256_of,
    size_of,
    write_manifest,
)
from pockethdr.export.provenance import code_sha256, versions
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import Recipe
from pockethdr.export.rewrite import Rewritten
from pockethdr.export.static import size_multiple, static_program
from pockethdr.export.targets import Target, target_of
from pockethdr.export.tile import check_tile
from pockethdr.export.tuned import Tuned, state_sha256
from pockethdr.models.load import Loaded, example_frames
from pockethdr.models.receptive import halo_of
from pockethdr.models.weights import save_weights

WEIGHTS_NAME = "weights.safetensors"
CALIBRATION_NAME = "calibration.json"


@dataclass(frozen=True)
class Settings:
    """What an export is asked for, beside the network."""

    targets: tuple[str, ...]
    precisions: tuple[str, ...]
    brackets: tuple[Path, ...]
    size: tuple[int, int]
    recipe: Recipe
    seed: int
    patches: int
    form: Form = "concat"
    allow_dynamic: bool = False
    tuned: Tuned | None = None
    ray: str | None = None
    calibration: Calibration | None = None


def export_model(
    loaded: Loaded,
    *,
    targets: Sequence[str],
    precisions: Sequence[str],
    bracket_folders: Sequence[Path],
    out: Path,
    size: tuple[int, int],
    recipe: Recipe,
    seed: int = 0,
    patches: int = 16,
    form: Form = "concat",
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
        recipe: what stays float in INT8.
        seed, patches: of the calibration.
        form: how Φ meets the latent channels, see `lowering.Form`.
        overwrite: replace an export of other settings.
        allow_dynamic: go on although a convolution keeps a run-time kernel.
        tuned: weights and ranges for the INT8 artifacts, tuned for `recipe`.
        ray: calibrate on this Ray cluster, see `calibration.spread`; the result is the same.
        calibration: of this network at any size, instead of calibrating: INT8 artifacts of several
            sizes then compute the same.
        command: how to do this again, for the manifest.
        progress: called with a sentence before each stage.

    Raises:
        PocketError: the network, a bracket or the folder cannot be used; nothing half-written.
    """
    settings = Settings(
        tuple(targets), tuple(precisions), tuple(bracket_folders),
        size, recipe, seed, patches, form, allow_dynamic, tuned, ray, calibration,
    )  # fmt: skip
    export = _Export(loaded, settings, out, progress or (lambda _: None))
    return export.run(overwrite=overwrite, command=command)


class _Export:
    """One run; what is costly is made when it is first needed."""

    def __init__(
        self, loaded: Loaded, settings: Settings, out: Path, say: Callable[[str], None]
    ) -> None:
        self.loaded, self.settings, self.out, self.say = loaded, settings, out, say

    def run(self, *, overwrite: bool, command: str) -> Manifest:
        cells = [
            (target_of(name), precision)
            for name in self.settings.targets
            for precision in self.settings.precisions
            if precision in target_of(name).precisions
        ]
        if not cells:
            raise PocketError(
                f"no target among {', '.join(self.settings.targets)} has "
                + ", ".join(self.settings.precisions),
                expected="a pair from the table of `pockethdr doctor`",
            )
        before = self._earlier(overwrite)
        if before is not None and self._complete(before, cells):
            return before
        if self.halo is not None:
            self._check_tile(self.halo)
        artifacts = tuple(self._cell(target, precision) for target, precision in cells)
        manifest = self._manifest(artifacts, command)
        write_manifest(manifest, self.out, overwrite=True)
        return manifest

    def _check_tile(self, halo: int) -> None:
        """Refuse a size that leaves no tile, as soon as its halo is known."""
        check_tile(self.loaded.spec, self.settings.size, halo, self.multiple)

    # ---- what was there before

    def _earlier(self, overwrite: bool) -> Manifest | None:
        """The manifest of an earlier run of the same settings; others need `overwrite`."""
        if not (self.out / MANIFEST_NAME).exists():
            return None
        manifest = read_manifest(self.out)
        if self.journal.is_ours():
            return manifest
        if not overwrite:
            raise ArtifactError(
                f"{self.out} holds an export of {manifest.spec} with other settings",
                expected="an empty folder, or one written by the same command",
                fix="choose another --out, or add --overwrite",
            )
        return None

    def _complete(self, manifest: Manifest, cells: Sequence[tuple[Target, str]]) -> bool:
        """Whether every cell is there and intact, or still cannot be built here."""
        there = {(a.target, a.precision): a for a in manifest.artifacts}
        if set(there) != {(target.name, precision) for target, precision in cells}:
            return False
        if any(a.skipped and _buildable(target_of(a.target)) for a in manifest.artifacts):
            return False
        files = [(a.file, a.sha256) for a in manifest.artifacts if a.file]
        contexts = [a.context for a in manifest.artifacts]
        known = (manifest.weights, manifest.calibration, *contexts)
        records = [(r.file, r.sha256) for r in known if r]
        return all(is_intact(self.out / name, sha256) for name, sha256 in [*files, *records])

    # ---- the parts

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.out, self.key)

    @cached_property
    def key(self) -> str:
        """The hash of everything that the artifacts depend on."""
        s = self.settings
        parts = {
            "state": state_sha256(self.loaded),
            "spec": self.loaded.spec,
            "domain": self.loaded.domain,
            "brackets": [sha256_of(folder) for folder in s.brackets],
            "size": s.size,
            "recipe": s.recipe.to_json(),
            "tuned": self._tuned,
            "calibration": [s.seed, s.patches, _sha256_of(s.calibration)],
            "form": s.form,
            "versions": versions(),
            "code": code_sha256(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def _tuned(self) -> dict[str, Any] | None:
        return self.settings.tuned.to_json() if self.settings.tuned else None

    @cached_property
    def frames(self) -> tuple[Tensor, Tensor, Tensor]:
        return example_frames(self.loaded.domain, *self.settings.size)

    @cached_property
    def static(self) -> Rewritten:
        self.say("tracing, rewriting and proving")
        s = self.settings
        bracket = self._read(s.brackets[0])
        return static_program(
            self.loaded, size=s.size, allow_dynamic=s.allow_dynamic, form=s.form, bracket=bracket
        )

    @cached_property
    def integer(self) -> fx.GraphModule:
        """The program that becomes INT8: the static one, its inputs scaled, its weights tuned."""
        tuned, program = self.settings.tuned, self.static.program
        if tuned is not None:
            return tuned.program(program)
        return with_input_gains(program, self.settings.recipe.input_gains)

    @cached_property
    def halo(self) -> int | None:
        """Of the network as it is."""
        return halo_of(self.loaded.module, self.frames)

    @cached_property
    def multiple(self) -> int:
        """What height and width of its frames must be multiples of."""
        return size_multiple(self.loaded.module, self.loaded.domain)

    @cached_property
    def cut(self) -> Cut | None:
        """Where a network without a halo is cut in two; None for any other."""
        if self.halo is not None:
            return None
        self.say("cutting off what describes the whole image")
        found = find_cut(self.loaded)
        if found is not None:
            self._check_tile(found.halo)
        return found

    @cached_property
    def graph_sha256(self) -> str:
        return program_sha256(self.static.program)

    @cached_property
    def calibration(self) -> Calibration:
        """That of an earlier run when it is of the same graph, brackets and seed."""
        path = self.out / CALIBRATION_NAME
        if self.journal.has(path):
            return Calibration.load(path)
        found = self.settings.calibration or self._calibrated()
        _check_fits(found, self.integer)
        found.save(path, overwrite=True)
        self.journal.keep(path)
        return found

    def _calibrated(self) -> Calibration:
        s = self.settings
        self.say(f"calibrating on {len(s.brackets)} brackets")
        return calibrator(s.ray)(
            self.integer,
            s.brackets,
            seed=s.seed,
            tile=s.size,
            patches_per_bracket=s.patches,
            read=partial(_frames_of, domain=self.loaded.domain) if s.ray else self._read,
            progress=lambda name: self.say(f"calibrated on {name}"),
        )

    def _read(self, folder: Path) -> Bracket:
        """A bracket, saying which of its frames are used."""
        bracket = _frames_of(folder, domain=self.loaded.domain)
        self.say(f"using {bracket.name}: {bracket.selection}")
        return bracket

    def _cell(self, target: Target, precision: str) -> Artifact:
        name = f"{self.loaded.name}_{self.loaded.domain}_{precision}{target.suffix}"
        before = self.journal.artifact(name)
        if before is not None:
            return before
        artifact = self._built(target, precision, name)
        self.journal.keep_artifact(artifact)
        return artifact

    def _built(self, target: Target, precision: str, name: str) -> Artifact:
        integer = precision == "int8"
        scheme = target.scheme.to_json() if integer else {}
        try:
            target.require()
            program, share = self.static.program, {}
            if integer:
                made = quantized(
                    self.integer, self._ranges(target), self.settings.recipe, target.scheme
                )
                program, share = (
                    made.program,
                    {"int8_mac_share": made.summary.int8_mac_share, "float": made.summary.floats},
                )
            self.say(f"building {target.name} {precision}")
            checks, context = self._parts(target, program, precision, name)
            if integer and is_readable(target.name):
                given = given_of_program(program, target.name)
                files = [self.out / name, *([self.out / context.file] if context else [])]
                checks["given"] = given.to_json()
                checks["ranges"] = imposed(files, target.name, given).to_json()
        except Unavailable as missing:
            return Artifact(
                target.name, precision, None, layout=target.layout, scheme=scheme,
                skipped=f"{missing.reason}; {missing.install}",
            )  # fmt: skip
        path = self.out / name
        return Artifact(
            target.name, precision, name, sha256_of(path), size_of(path),
            target.layout, scheme, {**share, **checks}, context=context,
        )  # fmt: skip

    def _parts(
        self, target: Target, program: fx.GraphModule, precision: str, name: str
    ) -> tuple[dict[str, Any], FileRecord | None]:
        """Build a program: as one file, or cut into what runs once a shot and the tiles."""
        path, frames = self.out / name, self.frames
        if self.cut is None:
            return target.build(program, frames, precision, path, overwrite=True), None
        first, tile = split(program, self.cut.record)
        context = path.with_name(f"{path.stem}_context{path.suffix}")
        target.build(first, frames, precision, context, overwrite=True)
        inputs = (*frames, context_example(self.cut.record, self.settings.size))
        checks = target.build(tile, inputs, precision, path, overwrite=True)
        return checks, self._record(context.name)

    def _ranges(self, target: Target) -> dict[str, tuple[float, float]]:
        recipe = self.settings.recipe
        chosen = self.calibration.ranges(
            recipe.method, methods=recipe.methods, symmetric=target.scheme.symmetric
        )
        ranges = {name: (found.low, found.high) for name, found in chosen.items()}
        return {**ranges, **(self.settings.tuned.ranges if self.settings.tuned else {})}

    def _manifest(self, artifacts: tuple[Artifact, ...], command: str) -> Manifest:
        loaded, done = self.loaded, self.static.to_json()
        channels = self.frames[0].shape[1]
        output = self.static.program.graph.output_node().args[0]
        assert isinstance(output, torch.fx.Node)
        calibration = None
        if "int8" in self.settings.precisions:
            _ = self.calibration
            calibration = self._record(CALIBRATION_NAME)
        save_weights(self.out / WEIGHTS_NAME, loaded.module, loaded.header or {})
        return Manifest(
            model=loaded.name,
            spec=loaded.spec,
            domain=loaded.domain,
            size=self.settings.size,
            halo=self.cut.halo if self.cut else self.halo,
            multiple=self.multiple,
            channels=channels,
            output_channels=output.meta["val"].shape[1],
            weights=self._record(WEIGHTS_NAME),
            graph_sha256=self.graph_sha256,
            calibration=calibration,
            artifacts=artifacts,
            recipe=self.settings.recipe.to_json(),
            tuned=self._tuned,
            rewrites=(*done["rewrites"], *([asdict(self.cut.proof)] if self.cut else [])),
            context=self.cut.record if self.cut else None,
            refusals=tuple(done["refusals"]),
            versions=versions(),
            command=command,
        )

    def _record(self, name: str) -> FileRecord:
        return FileRecord(name, sha256_of(self.out / name))


def _frames_of(folder: Path, *, domain: str) -> Bracket:
    """A bracket whose frames stay on disk, however large."""
    return read_bracket(folder, domain=domain, stream=True)


def _sha256_of(calibration: Calibration | None) -> str | None:
    return hashlib.sha256(calibration.to_json().encode()).hexdigest() if calibration else None


def _check_fits(calibration: Calibration, program: fx.GraphModule) -> None:
    """Refuse the calibration of another network: its ranges would be put on whatever is alike."""
    nodes = {node.name for node in program.graph.nodes}
    strange = sorted(set(calibration.tensors) - nodes)
    if strange:
        raise CalibrationError(
            f"the calibration knows tensors that this network lacks ({', '.join(strange[:3])} …)",
            expected="a calibration of the same network, at any size",
            fix="leave --calibration out, or name the file of this network",
        )


def _buildable(target: Target) -> bool:
    try:
        target.require()
    except Unavailable:
        return False
    return True
