"""Proof that an artifact holds what was imposed on it, all of it and nothing else, read back.

A converter may re-derive a range, merge two, round a weight its own way, drop a pair or leave a
convolution float, and says nothing of it. So the codes of activations and the kernels in an
artifact's files are compared, exactly, with those of the program that it was made of. None may be
foreign and none missing. What was given is kept in the manifest, so that an artifact can be read
again wherever it is judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pockethdr.errors import PocketError, Unavailable
from pockethdr.export.codes import stored_codes
from pockethdr.export.kernels import Kernel, kernels_of_program
from pockethdr.export.manifest import Artifact
from pockethdr.export.quiet import quiet
from pockethdr.export.read_back import READERS, stored_in
from pockethdr.export.targets import target_of

if TYPE_CHECKING:
    from torch import fx


class RangesError(PocketError):
    """An artifact whose target does not tell what it holds."""


@dataclass(frozen=True)
class Given:
    """What a converter was given, as the files of one target have to hold it."""

    codes: frozenset[str]
    kernels: tuple[Kernel, ...]

    def to_json(self) -> dict[str, Any]:
        return {"codes": sorted(self.codes), "kernels": [k.to_json() for k in self.kernels]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Given:
        """What `to_json` made."""
        return cls(frozenset(data["codes"]), tuple(Kernel(**k) for k in data["kernels"]))


@dataclass(frozen=True)
class Imposed:
    """How many codes and kernels of an artifact are ours, and a sentence for each that is amiss.

    Attributes:
        foreign: those in its files that were not given.
        missing: those given that none of its files holds.
    """

    ours: int
    foreign: tuple[str, ...]
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"ours": self.ours, "foreign": list(self.foreign), "missing": list(self.missing)}


def is_readable(target: str) -> bool:
    """Whether the files of `target` tell what they hold."""
    return target in READERS


def given_of(programs: Iterable[fx.GraphModule], target: str) -> Given:
    """What the files of an artifact have to hold together, made of one Q/DQ program each."""
    codes: set[str] = set()
    kernels: list[Kernel] = []
    for program in programs:
        codes |= stored_codes(program, target)
        kernels += kernels_of_program(program, target)
    return Given(frozenset(codes), tuple(kernels))


def imposed(artifacts: Iterable[Path], target: str, given: Given) -> Imposed:
    """Compare the files of one artifact with what their converter was given.

    Args:
        artifacts: every file of it: those of a network cut in two hold it together.

    Raises:
        RangesError: a target whose files cannot be read back.
    """
    if not is_readable(target):
        raise RangesError(f"{target} files cannot be read back", expected=", ".join(READERS))
    with quiet():
        stored = [stored_in(artifact, target) for artifact in artifacts]
    codes = {code for file in stored for code in file.codes}
    kernels = [kernel for file in stored for kernel in file.kernels]
    verdicts = [_verdict_on_code(c, given) for c in sorted(codes)]
    verdicts += [_verdict_on_kernel(kernel, given) for kernel in kernels]
    foreign = tuple(verdict for verdict in verdicts if verdict)
    return Imposed(verdicts.count(""), foreign, tuple(_missing(given, codes, kernels)))


def imposed_in(folder: Path, artifact: Artifact) -> Imposed | None:
    """Read an artifact of an export again; None where the manifest keeps nothing to compare with.

    Raises:
        Unavailable: what reads the format is not installed.
    """
    given = artifact.checks.get("given")
    if given is None or artifact.file is None:
        return None
    files = [artifact.file, *([artifact.context.file] if artifact.context else [])]
    paths = [folder / file for file in files]
    try:
        return imposed(paths, artifact.target, Given.from_json(given))
    except ModuleNotFoundError as missing:
        raise Unavailable(
            f"{missing.name} is not installed", install=target_of(artifact.target).install
        ) from missing


def _verdict_on_code(found: str, given: Given) -> str:
    return "" if found in given.codes else f"scale and zero-point {found}"


def _verdict_on_kernel(found: Kernel, given: Given) -> str:
    if not given.kernels:
        return f"{found.name}: given as float"
    closest = min(given.kernels, key=lambda kernel: len(found.differs_in(kernel)))
    differing = found.differs_in(closest)
    return f"{found.name}: other {' and '.join(differing)} than {closest.name}" * bool(differing)


def _missing(given: Given, codes: set[str], kernels: Iterable[Kernel]) -> Iterator[str]:
    """Kernels are counted: two that are alike are two convolutions."""
    yield from (f"scale and zero-point {code}" for code in sorted(given.codes - codes))
    left = Counter(kernel.fingerprint for kernel in kernels)
    for kernel in given.kernels:
        left[kernel.fingerprint] -= 1
        if left[kernel.fingerprint] < 0:
            yield kernel.name
