"""What calibration leaves behind: one histogram per tensor, and where it came from.

The file holds no ranges: `Calibration.ranges` chooses them afterwards, by any method, from the same
counts. Equal brackets, seed and settings give equal bytes, and files of disjoint sets of brackets
merge into the bytes of the file of all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pockethdr.calibration.histogram import BINS, FIRST_EXPONENT, PER_OCTAVE, Histogram
from pockethdr.calibration.ranges import Range, ranges_of
from pockethdr.errors import PocketError
from pockethdr.files import write_bytes

SCHEMA = 2
GRID = {"bins": BINS, "first_exponent": FIRST_EXPONENT, "per_octave": PER_OCTAVE}


class CalibrationError(PocketError):
    """Brackets cannot be calibrated on, or calibration files do not fit together."""


@dataclass(frozen=True)
class SeenBracket:
    """A bracket that was calibrated on.

    Attributes:
        name: of its folder.
        sha256: of each file read.
        ratios: exposures over the shortest.
        patches: (top, left) of each patch, in pixels of the network's grid.
    """

    name: str
    sha256: dict[str, str]
    ratios: tuple[float, ...]
    patches: tuple[tuple[int, int], ...]

    def content(self) -> tuple[str, ...]:
        """What makes two brackets the same, whatever their names."""
        return tuple(sorted(self.sha256.values()))


@dataclass(frozen=True)
class Calibration:
    """Histograms of every tensor of one program over some brackets.

    Attributes:
        graph_sha256: of the program that was run, at `tile`.
        seed: of the patches.
        tile: (H, W) of a patch, in pixels of the network's grid.
        patches_per_bracket: at most this many.
        versions: of the tools that ran the program.
        brackets: in order of name and content.
        tensors: node name → histogram.
        values_sha256: of the network's values before any rewrite, the same at every size: the
            ranges fit no other network. Empty where whoever calibrated did not say.
    """

    graph_sha256: str
    seed: int
    tile: tuple[int, int]
    patches_per_bracket: int
    versions: Mapping[str, str]
    brackets: tuple[SeenBracket, ...]
    tensors: Mapping[str, Histogram]
    values_sha256: str = ""

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.brackets, key=lambda seen: (seen.name, seen.content())))
        _check_no_repeats(ordered)
        object.__setattr__(self, "brackets", ordered)
        object.__setattr__(self, "versions", MappingProxyType(dict(self.versions)))
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))

    def ranges(
        self,
        method: str,
        *,
        methods: Mapping[str, str] | None = None,
        symmetric: bool = False,
        below: Mapping[str, float] | None = None,
    ) -> dict[str, Range]:
        """Node name → range, for every tensor; see `pockethdr.calibration.ranges`.

        Args:
            methods: node name → method, of the tensors that have one of their own.
            below: node name → how much of an error below zero its readers hand on, where not all.

        Raises:
            CalibrationError: `methods` names a tensor that there is not.
        """
        own = methods or {}
        strange = sorted(set(own) - set(self.tensors))
        if strange:
            raise CalibrationError(
                f"methods for tensors that were not calibrated: {', '.join(strange)}",
                expected="a recipe whose `methods` were chosen for this network",
                fix="export with --method auto, or take `methods` out of the recipe",
            )
        return ranges_of(self.tensors, method, methods=own, symmetric=symmetric, below=below or {})

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write as JSON, whole or not at all.

        Raises:
            PocketError: `path` exists and may not be overwritten, or cannot be written.
        """
        write_bytes(path, self.to_json().encode(), overwrite=overwrite)

    def to_json(self) -> str:
        """The file's content: sorted keys, one tensor a line."""
        data = {
            "schema": SCHEMA,
            "grid": GRID,
            "graph_sha256": self.graph_sha256,
            "values_sha256": self.values_sha256,
            "seed": self.seed,
            "tile": list(self.tile),
            "patches_per_bracket": self.patches_per_bracket,
            "versions": dict(self.versions),
            "brackets": [asdict(seen) for seen in self.brackets],
        }
        head = json.dumps(data, sort_keys=True, indent=1, allow_nan=False)
        lines = ",\n".join(
            f"  {json.dumps(name)}: {_compact(self.tensors[name].to_json())}"
            for name in sorted(self.tensors)
        )
        return f'{head[:-2]},\n "tensors": {{\n{lines}\n }}\n}}\n'

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            CalibrationError: the file is missing, damaged, or of another grid or schema.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CalibrationError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(
                f"{path} is no calibration file: {error}",
                expected="a file that `pockethdr calibrate` wrote",
                fix="calibrate again: pockethdr calibrate MODEL --brackets DIR --out FILE",
            ) from error

    @classmethod
    def from_json(cls, content: str) -> Calibration:
        """The inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: `content` is not what `to_json` writes.
        """
        data = json.loads(content)
        if data["schema"] != SCHEMA or data["grid"] != GRID:
            raise ValueError("it was written by another version of PocketHDR")
        return cls(
            graph_sha256=data["graph_sha256"],
            seed=data["seed"],
            tile=_pair(data["tile"]),
            patches_per_bracket=data["patches_per_bracket"],
            versions=data["versions"],
            brackets=tuple(_seen(entry) for entry in data["brackets"]),
            tensors={name: Histogram.from_json(entry) for name, entry in data["tensors"].items()},
            values_sha256=data["values_sha256"],
        )


def merge(first: Calibration, second: Calibration) -> Calibration:
    """The calibration of all brackets of both, exactly as if done in one run.

    Raises:
        CalibrationError: they are of different programs, seeds, settings or tool versions, or
            share a bracket.
    """
    for name in (
        "graph_sha256",
        "values_sha256",
        "seed",
        "tile",
        "patches_per_bracket",
        "versions",
    ):
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            raise CalibrationError(
                f"calibrations differ in {name}: {_shown(ours)} and {_shown(theirs)}",
                expected="the same program, seed, settings and tool versions",
                fix="calibrate both halves with the same command",
            )
    if set(first.tensors) != set(second.tensors):
        raise CalibrationError("calibrations are of different tensors")
    return replace(
        first,
        brackets=first.brackets + second.brackets,
        tensors={name: first.tensors[name].merged(second.tensors[name]) for name in first.tensors},
    )


def _check_no_repeats(brackets: Sequence[SeenBracket]) -> None:
    names: dict[tuple[str, ...], str] = {}
    for seen in brackets:
        if seen.content() in names:
            raise CalibrationError(
                f"bracket {seen.name} is the same as {names[seen.content()]}",
                expected="each bracket once, or its scene counts twice",
                fix="leave one of them out",
            )
        names[seen.content()] = seen.name


def _compact(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _seen(entry: dict[str, Any]) -> SeenBracket:
    patches = tuple(_pair(patch) for patch in entry["patches"])
    return SeenBracket(entry["name"], entry["sha256"], tuple(entry["ratios"]), patches)


def _shown(value: object) -> str:
    return str(dict(value) if isinstance(value, Mapping) else value)
