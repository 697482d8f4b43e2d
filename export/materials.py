"""What the artifacts of one network are made of: its static program, ranges, and where it is cut.

Each is made when it is first asked for; the calibration, which costs most, stays in the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from torch import Tensor, fx

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.read import read_bracket
from pockethdr.calibration.calibration import Calibration, CalibrationError
from pockethdr.calibration.observe import program_sha256
from pockethdr.calibration.spread import calibrator
from pockethdr.export.context import Cut, find_cut
from pockethdr.export.identity import state_sha256
from pockethdr.export.integers import prepared, ranges_for
from pockethdr.export.journal import Journal
from pockethdr.export.quantize import Quantized, quantized
from pockethdr.export.rewrite import Rewritten
from pockethdr.export.scheme import Scheme
from pockethdr.export.settings import Settings
from pockethdr.export.static import size_multiple, static_program
from pockethdr.export.tile import check_tile
from pockethdr.models.load import Loaded, example_frames
from pockethdr.models.receptive import Sight, sight_of

CALIBRATION_NAME = "calibration.json"


class Materials:
    """All that the artifacts of one network are built from, under one set of settings.

    Args:
        journal: of the folder in which the calibration is kept.
        say: called with a sentence before whatever takes its time.
    """

    def __init__(
        self, loaded: Loaded, settings: Settings, journal: Journal, say: Callable[[str], None]
    ) -> None:
        self.loaded, self.settings, self.journal, self.say = loaded, settings, journal, say

    # ---- the network

    @cached_property
    def frames(self) -> tuple[Tensor, Tensor, Tensor]:
        """Three inputs of the size that the artifacts are fixed to, each 1×C×H×W."""
        return example_frames(self.loaded.domain, *self.settings.size)

    @cached_property
    def static(self) -> Rewritten:
        """The network without dynamic kernels, every rewrite of it proved.

        Raises:
            PocketError: a kernel that cannot be made static, or a bracket that cannot be read.
        """
        self.say("tracing, rewriting and proving")
        s = self.settings
        bracket = self._read(s.brackets[0])
        return static_program(
            self.loaded, size=s.size, allow_dynamic=s.allow_dynamic, bracket=bracket
        )

    @cached_property
    def graph_sha256(self) -> str:
        return program_sha256(self.static.program)

    # ---- tiles

    @cached_property
    def sight(self) -> Sight:
        """How far the network looks beyond a pixel, and by how much its frames may be moved.

        Raises:
            PocketError: the size leaves no tile, or is no multiple.
        """
        multiple = size_multiple(self.loaded.module, self.loaded.domain)
        return self._fitting(sight_of(self.loaded.module, self.frames, multiple))

    @cached_property
    def cut(self) -> Cut | None:
        """Where a network that looks at the whole image is cut in two; None for any other."""
        if self.sight.radius is not None:
            return None
        self.say("cutting off what describes the whole image")
        found = find_cut(self.loaded, self.static.program, self.sight.multiple)
        if found is not None:
            self._fitting(found.sight)
        return found

    def _fitting(self, sight: Sight) -> Sight:
        if sight.radius is not None:
            check_tile(self.loaded.spec, self.settings.size, sight.radius, sight.multiple)
        return sight

    # ---- integers

    @cached_property
    def prepared(self) -> fx.GraphModule:
        """The program that becomes INT8: the static one, its inputs scaled, its weights tuned."""
        return prepared(self.static.program, self.settings.recipe, self.settings.tuned)

    def quantized(self, scheme: Scheme) -> Quantized:
        """`prepared` in the integers of a target."""
        program, recipe = self.prepared, self.settings.recipe
        ranges = ranges_for(
            program, self.calibration, recipe, self.settings.tuned, symmetric=scheme.symmetric
        )
        return quantized(program, ranges, recipe, scheme)

    @cached_property
    def calibration(self) -> Calibration:
        """That of an earlier run if it still fits, else the one that was given, else a new one.

        Raises:
            CalibrationError: the one that was given is of another network.
        """
        path = self.journal.out / CALIBRATION_NAME
        if self.journal.has(path):
            return Calibration.load(path)
        found = self.settings.calibration or self._calibrated()
        _check_fits(found, self.prepared, self._values_sha256)
        found.save(path, overwrite=True)
        self.journal.keep(path)
        return found

    def _calibrated(self) -> Calibration:
        s = self.settings
        self.say(f"calibrating on {len(s.brackets)} bracket{'s' * (len(s.brackets) != 1)}")
        found = calibrator(s.ray)(
            self.prepared,
            s.brackets,
            seed=s.seed,
            tile=s.size,
            patches_per_bracket=s.patches,
            read=partial(frames_of, domain=self.loaded.domain) if s.ray else self._read,
            progress=lambda name: self.say(f"calibrated on {name}"),
        )
        return replace(found, values_sha256=self._values_sha256)

    @cached_property
    def _values_sha256(self) -> str:
        return state_sha256(self.loaded)

    def _read(self, folder: Path) -> Bracket:
        """A bracket, saying which of its frames are used."""
        bracket = frames_of(folder, domain=self.loaded.domain)
        self.say(f"using {bracket.name}: {bracket.selection}")
        return bracket


def frames_of(folder: Path, *, domain: str) -> Bracket:
    """A bracket whose frames stay on disk, however large."""
    return read_bracket(folder, domain=domain, stream=True)


def _check_fits(calibration: Calibration, program: fx.GraphModule, values_sha256: str) -> None:
    """Refuse the calibration of another network: its ranges would be put on whatever is alike."""
    if calibration.values_sha256 not in ("", values_sha256):
        raise CalibrationError(
            "the calibration is of a network with other weights",
            expected=f"one made with these weights (values {values_sha256[:12]}…)",
            fix="calibrate again, or leave --calibration out",
        )
    nodes = {node.name for node in program.graph.nodes}
    strange = sorted(set(calibration.tensors) - nodes)
    if strange:
        raise CalibrationError(
            f"the calibration knows tensors that this network lacks ({', '.join(strange[:3])} …)",
            expected="a calibration of the same network, at any size",
            fix="leave --calibration out, or name the file of this network",
        )
