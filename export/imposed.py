"""Proof that an artifact holds what was imposed on it: its integers and scales, read back.

A converter may re-derive a range, merge two, round a weight its own way or drop a pair, and says
nothing of it. So the codes of activations and the kernels in a file are compared, exactly, with
those of the program that it was made of. None may be foreign. What was given is kept in the
manifest, so that an artifact can be read again wherever it is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pockethdr.errors import PocketError, Unavailable
from pockethdr.export.kernels import Kernel, code, kernels_of_program
from pockethdr.export.manifest import Artifact
from pockethdr.export.quiet import quiet
from pockethdr.export.read_back import READERS, stored_in
from pockethdr.export.targets import target_of

if TYPE_CHECKING:
    from torch import fx

#: (scale, zero-point)
Code = tuple[float, int]


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
    """How many codes and kernels of an artifact are ours; a sentence for each that is not."""

    ours: int
    foreign: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"ours": self.ours, "foreign": list(self.foreign)}


def is_readable(target: str) -> bool:
    """Whether the files of `target` tell what they hold."""
    return target in READERS


def given_of_program(program: fx.GraphModule, target: str) -> Given:
    """What an artifact made of a Q/DQ program has to hold."""
    codes = codes_of_program(program)
    if target == "coreml":
        codes |= set(_quotients(program))
    return Given(
        frozenset(code(scale, zero, target) for scale, zero in codes),
        tuple(kernels_of_program(program, target)),
    )


def imposed(artifacts: Iterable[Path], target: str, given: Given) -> Imposed:
    """Compare the files of one artifact with what their converter was given.

    Raises:
        RangesError: a target whose files cannot be read back.
    """
    if not is_readable(target):
        raise RangesError(f"{target} files hold no ranges", expected=", ".join(READERS))
    ours, foreign = 0, []
    for artifact in artifacts:
        with quiet():
            stored = stored_in(artifact, target)
        verdicts = [_verdict_on_code(c, given) for c in sorted(set(stored.codes))]
        verdicts += [_verdict_on_kernel(kernel, given) for kernel in stored.kernels]
        foreign += [verdict for verdict in verdicts if verdict]
        ours += verdicts.count("")
    return Imposed(ours, tuple(foreign))


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


def codes_of_program(program: fx.GraphModule) -> set[Code]:
    """The scale and zero-point of every activation pair."""
    return {found for node in program.graph.nodes if (found := _code_of(node, "quantize"))}


def _code_of(node: fx.Node, kind: str) -> Code | None:
    if f".{kind}_per_tensor" not in str(node.target):
        return None
    return float(node.args[1]), int(node.args[2])  # type: ignore[arg-type]


def _quotients(program: fx.GraphModule) -> Iterator[Code]:
    """coremltools divides all scales around a sum by that of an operand, which changes no value."""
    for node in program.graph.nodes:
        if not any(kind in str(node.target) for kind in ("aten.add.", "aten.sub.")):
            continue
        reads = [found for x in node.all_input_nodes if (found := _code_of(x, "dequantize"))]
        users = [user for direct in node.users for user in (direct, *direct.users)]
        writes = [found for user in users if (found := _code_of(user, "quantize"))]
        for divisor, _ in reads:
            yield from ((scale / divisor, zero) for scale, zero in (*reads, *writes))


def _verdict_on_code(found: str, given: Given) -> str:
    return "" if found in given.codes else f"scale and zero-point {found}"


def _verdict_on_kernel(found: Kernel, given: Given) -> str:
    if not given.kernels:
        return f"{found.name}: given as float"
    closest = min(given.kernels, key=lambda kernel: len(found.differs_in(kernel)))
    differing = found.differs_in(closest)
    return f"{found.name}: other {' and '.join(differing)} than {closest.name}" * bool(differing)
