"""How much memory fusing takes, and the largest tile that stays within a budget.

    peak = modules + max(frames being decoded, tile)

What a runtime holds for one network grows with the pixels of its tile, by a factor that differs
between networks, runtimes and precisions. So it is measured and not modelled: the smallest tile
at hand runs once in a process of its own, and the larger ones are predicted from it, never tried.
See docs/decisions/011-memory-budget.md.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from pockethdr.errors import PocketError
from pockethdr.export.manifest import Artifact, Manifest, manifest_path, read_manifest
from pockethdr.export.tile import least_tile
from pockethdr.runtime.artifact import Deployed, deployed
from pockethdr.runtime.child import answer, measured_in_child
from pockethdr.runtime.context import context_file
from pockethdr.runtime.latency import peak_memory_mb
from pockethdr.runtime.runner import open_runner

# What `fuse` has loaded when the first tile runs, a decoder too.
_LOADED = ("pockethdr.runtime.fuse", "pockethdr.runtime.write", "imagecodecs._png")
# ONNX Runtime plans its memory in the first run, and takes it in the second.
_RUNS = 2
# The least that a kernel tells apart, 4 KiB.
_PAGE = 2**-8
_UNITS = {"": 1.0, "k": 2**-10, "m": 1.0, "g": 2.0**10}
# Memory that decoders gave back and the allocator kept, and strips on their way: of the peak.
_MARGIN = 1.2


@dataclass(frozen=True)
class Usage:
    """What a process takes, in MiB: for its modules, and for one tile of `size` (H, W) besides."""

    modules: float
    tile: float
    size: tuple[int, int]

    def at(self, size: tuple[int, int]) -> float:
        """The peak that is predicted for tiles of another size."""
        return _MARGIN * (self.modules + self.tile * math.prod(size) / math.prod(self.size))

    def pixels_within(self, budget: float) -> float:
        """The largest tile, in pixels, whose peak is predicted below `budget` MiB."""
        tile = max(self.tile, _PAGE)
        return (budget / _MARGIN - self.modules) / tile * math.prod(self.size)


def parsed(memory: str) -> float:
    """`512MB`, `0.5GB` → MiB.

    Raises:
        PocketError: it is no amount of memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)i?b?\s*", memory.lower())
    amount = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if amount <= 0:
        raise PocketError(f"--memory {memory}", expected="an amount such as 512MB or 1GB")
    return amount


def within(artifact: Path, budget: float, *, threads: int) -> tuple[Path, Usage]:
    """The artifact, or the same at another size, with the largest tile that fits `budget` MiB.

    The same artifact at another size is one of the same name in a folder beside its own, of the
    same network with the same weights, calibration and recipe.

    Raises:
        ArtifactError: `artifact` is damaged, stale, or not listed in its manifest.
        PocketError: not even the smallest fits.
        Unavailable: this host cannot run it.
    """
    sizes = _sizes(deployed(artifact))
    smallest, manifest = sizes[0]
    usage = measured(smallest, threads=threads)
    fitting = [path for path, other in sizes if usage.at(other.size) <= budget]
    if not fitting:
        raise _too_small(usage, budget, manifest)
    return fitting[-1], usage


def measured(artifact: Path, *, threads: int) -> Usage:
    """What running the artifact takes, that of its context too, measured in a process of its own.

    Raises:
        ArtifactError: it does not run.
        Unavailable: this host cannot run it.
    """
    found = measured_in_child("pockethdr.runtime.memory", artifact, threads)
    return Usage(found["modules"], found["tile"], (found["size"][0], found["size"][1]))


def _sizes(asked: Deployed) -> list[tuple[Path, Manifest]]:
    """`asked` at every size that lies beside it, smallest tile first."""
    found = {asked.path: asked.manifest}
    for path in sorted(asked.path.absolute().parent.parent.glob(f"*/{asked.path.name}")):
        if not manifest_path(path.parent).is_file() or path.samefile(asked.path):
            continue
        other = read_manifest(path.parent)
        is_of_asked = _origin(other, asked.record) == _origin(asked.manifest, asked.record)
        if is_of_asked and _lists(other, asked.record):
            found[path] = other
    # Of equal sizes `asked` is the last, and the one that is taken.
    return sorted(found.items(), key=lambda item: (math.prod(item[1].size), item[0] == asked.path))


def _origin(manifest: Manifest, record: Artifact) -> tuple[object, ...]:
    """What artifacts have in common that differ in the size of their tiles alone."""
    weights = manifest.weights.sha256 if manifest.weights else None
    found = manifest.spec, manifest.domain, weights
    if record.precision != "int8":
        return found
    calibration = manifest.calibration.sha256 if manifest.calibration else None
    tuned = manifest.tuned["sha256"] if manifest.tuned else None
    return *found, calibration, manifest.recipe, tuned


def _lists(manifest: Manifest, record: Artifact) -> bool:
    kinds = [(other.target, other.precision, other.file) for other in manifest.artifacts]
    return (record.target, record.precision, record.file) in kinds


def _too_small(usage: Usage, budget: float, manifest: Manifest) -> PocketError:
    least = math.ceil(usage.at(usage.size))
    side = int(math.sqrt(max(0.0, usage.pixels_within(budget))))
    side -= side % math.lcm(manifest.multiple, 8)
    smaller = manifest.halo is not None and side >= least_tile(manifest.halo, manifest.multiple)
    also = f", or export the model with --size {side}x{side} too" if smaller else ""
    return PocketError(
        f"--memory {budget:.0f}MB: tiles of {usage.size[0]}x{usage.size[1]}, the smallest that "
        f"{manifest.model} is exported with, take about {least} MB",
        expected=f"at least {least}MB",
        fix=f"--memory {least}MB{also}",
    )


def _measure(artifact: Path, threads: int) -> Usage:
    for name in _LOADED:
        import_module(name)
    found = deployed(artifact)
    runner = open_runner(artifact, found.record.target, threads=threads)
    before = peak_memory_mb()
    with closing(runner):
        if found.manifest.context is not None:
            _run_once(context_file(found), found.record, threads)
        for _ in range(_RUNS):
            runner.run_in_place(_fill_with_zeros, lambda _: None)
    return Usage(before, peak_memory_mb() - before, found.manifest.size)


def _run_once(context: Path, record: Artifact, threads: int) -> None:
    """As a shot does, while the artifact of the tiles is open."""
    with closing(
        open_runner(context, record.target, threads=threads, layout=record.layout)
    ) as runner:
        runner.run_in_place(_fill_with_zeros, lambda _: None)


def _fill_with_zeros(views: Sequence[object]) -> None:
    for view in views:
        view[...] = 0  # type: ignore[index]


if __name__ == "__main__":
    answer(lambda: asdict(_measure(Path(sys.argv[1]), int(sys.argv[2]))))
