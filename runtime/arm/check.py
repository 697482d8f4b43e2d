"""TFLite artifacts on ARM code: XNNPACK's kernels for phones, under an emulator.

x86 and ARM run different kernels of one library. Integer ones agree to the bit; the float
operations that an INT8 recipe keeps need not, so that what differs is counted and located. In half
precision ARM computes what x86 only imitates, and the loss shows here alone. An emulator says
nothing of speed, and no time is taken.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.brackets.bracket import Bracket
from pockethdr.errors import ArtifactError
from pockethdr.export.targets import input_names
from pockethdr.runtime.agreement import LEAST_DB, agreement
from pockethdr.runtime.arm import worker
from pockethdr.runtime.arm.tools import CPU, ArmHost
from pockethdr.runtime.artifact import Deployed
from pockethdr.runtime.context import context_of, inputs_at
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.litert import coded_inputs, decoded_output
from pockethdr.runtime.runner import Array
from pockethdr.runtime.tiling import planned

#: Emulation takes minutes where a phone takes milliseconds.
TILES = 2
_PLAIN, _FORCE_FP16 = 0, 4
_INTEGER = ("int8", "dynint8")
_WORKER = Path(worker.__file__)


@dataclass(frozen=True)
class ArmCheck:
    """One artifact on ARM.

    Attributes:
        tiles: how many were compared.
        fp16: half-precision arithmetic was forced, as a phone's FP16 mode does.
        differing: values that are not equal to the bit, of `values`.
        where: the first of them, (tile, row, column, channel); None without one.
        max_difference: the largest.
        db: PSNR-µ against this host.
    """

    cpu: str
    tiles: int
    fp16: bool
    values: int
    differing: int
    where: tuple[int, ...] | None
    max_difference: float | None
    db: float | None
    passed: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_on_arm(found: Deployed, bracket: Bracket, host: ArmHost) -> ArmCheck:
    """Run a few tiles of `bracket` on ARM and here, and compare.

    What a network is told of the whole image is computed here, and given to both.

    Raises:
        ArtifactError: the artifact does not run on one of them, or its context is missing.
    """
    manifest, precision = found.manifest, found.record.precision
    stacks = _tiles(found, bracket)
    with tempfile.TemporaryDirectory() as scratch:
        frames = Path(scratch) / "frames.npz"
        np.savez(frames, allow_pickle=False, **stacks)
        here = _here(found.path, frames)
        flags = _PLAIN if precision in _INTEGER else _FORCE_FP16
        there = _on_arm(found.path, frames, host, flags)
    shape = (-1, *manifest.size, manifest.output_channels)
    return compared(here.reshape(shape), there.reshape(shape), precision)


def compared(here: Array, there: Array, precision: str) -> ArmCheck:
    """Judge ARM's output against this host's, tiles×H×W×C both."""
    different = here != there
    count, fp16 = int(different.sum()), precision not in _INTEGER
    where = tuple(int(i) for i in np.argwhere(different)[0]) if count else None
    db = agreement(there, here)
    largest = None if db is None else float(np.abs(here - there).max())
    passed = db is not None and db >= LEAST_DB
    return ArmCheck(CPU, len(here), fp16, here.size, count, where, largest, db, passed)


def _tiles(found: Deployed, bracket: Bracket) -> dict[str, np.ndarray]:
    """The artifact's inputs by name, as its tensors hold them: tiles spread over the bracket."""
    frames = bracket.inputs()
    plan, _ = planned(found.manifest, bracket.size())
    chosen = [plan[i * (len(plan) - 1) // max(TILES - 1, 1)] for i in range(min(TILES, len(plan)))]
    context = context_of(found, Feed(bracket), threads=1)
    each = [coded_inputs(found.path, inputs_at(tile, frames, context)) for tile in chosen]
    stacks = [np.concatenate(values) for values in zip(*each, strict=True)]
    return dict(zip(input_names(stacks), stacks, strict=True))


def _here(artifact: Path, frames: Path) -> Array:
    out = frames.with_name("here.npy")
    arguments = [str(part) for part in (_WORKER, artifact.resolve(), frames, out, _PLAIN)]
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return _output(artifact, out, done, "this host")


def _on_arm(artifact: Path, frames: Path, host: ArmHost, flags: int) -> Array:
    out = frames.with_name("there.npy")
    done = host.python(_WORKER, artifact.resolve(), frames, out, str(flags))
    return _output(artifact, out, done, f"emulated {CPU}")


def _output(artifact: Path, out: Path, done: subprocess.CompletedProcess[str], where: str) -> Array:
    if done.returncode or not out.is_file():
        # LiteRT goes on talking while the process ends.
        said = [line for line in done.stderr.splitlines() if line and not line.startswith("INFO:")]
        why = said[-1] if said else f"exit status {done.returncode}"
        raise ArtifactError(f"{artifact.name} does not run on {where}: {why}")
    return decoded_output(artifact, np.load(out).tobytes())
