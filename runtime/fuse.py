"""A bracket and an artifact → one HDR image of the whole frame, tile by tile.

    with Fuser("out/m32/dsan-m32_raw_int8.tflite") as fuser:
        image = fuser.fuse("photos/garden")

Frames come from disk row by row and the result goes there tile by tile, so that memory depends on
the artifact's tile and hardly on the size of the picture.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from pockethdr.brackets.align import aligned
from pockethdr.brackets.bracket import CHANNELS, OUTPUT_CHANNELS, Bracket
from pockethdr.brackets.read import read_bracket
from pockethdr.brackets.spool import Spool
from pockethdr.errors import ArtifactError
from pockethdr.export.manifest import read_manifest
from pockethdr.runtime.artifact import Deployed, deployed
from pockethdr.runtime.context import Context, context_of
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.image import HDRImage
from pockethdr.runtime.memory import parsed, within
from pockethdr.runtime.runner import Array, Runner, Shape, open_runner
from pockethdr.runtime.tiling import Progress, Tile, planned


class Fuser:
    """A loaded artifact that fuses brackets; a context manager. Threads may share one.

    Args:
        artifact: inside its export folder, whose manifest it is checked against.
        threads: CPU threads, of the runtime and of what is done around it.
        align: lay hand-held frames over each other first, see `brackets.align`.
        response: how encoded rgb becomes linear, see `read_bracket`.
        memory: what the process may take, such as 512MB: the artifact is then the largest that fits
            among those of its name beside it, see `memory.within`.

    Raises:
        ArtifactError: the artifact is damaged, stale, or not listed in its manifest.
        PocketError: nothing fits into `memory`.
        Unavailable: this host cannot run it.
    """

    def __init__(
        self,
        artifact: str | Path,
        *,
        threads: int = 2,
        align: bool = False,
        response: str = "auto",
        memory: str | None = None,
    ) -> None:
        self._clock = _Clock()
        self._notes: tuple[str, ...] = ()
        self._room = math.inf
        with self._clock.stage("load"):
            path = Path(artifact)
            if memory is not None:
                path = self._within(path, parsed(memory), threads)
            self._found = deployed(path)
            self._runner: Runner | None = _opened(self._found, threads)
        _check_inputs(self._found, self._runner)
        self._threads, self._lock = threads, Lock()
        self._align, self._response, self._closed = align, response, False

    @property
    def domain(self) -> str:
        """Of the brackets it takes: raw or rgb."""
        return self._found.manifest.domain

    @property
    def reads_ahead(self) -> bool:
        """Whether there is memory to read a bracket while another one is fused."""
        return math.isinf(self._room)

    def read(self, folder: str | Path) -> Bracket:
        """A bracket of the artifact's domain, its frames kept on disk.

        Raises:
            BracketError: the folder cannot be used.
        """
        path, response = Path(folder), self._response
        bracket = read_bracket(
            path, domain=self.domain, response=response, stream=True, room=self._room
        )
        return aligned(bracket) if self._align else bracket

    def fuse(self, bracket: str | Path | Bracket, *, progress: Progress | None = None) -> HDRImage:
        """One HDR image of the whole frame.

        Args:
            bracket: a folder (or .npz), or a bracket already read, best by `read`.
            progress: called with (tiles done, tiles in all).

        Raises:
            BracketError: the folder cannot be used.
            ArtifactError: the artifact is of another domain, or the fuser is closed.
            OSError: no room for temporary files.
        """
        clock = _Clock(self._clock)
        with clock.stage("read"):
            if not isinstance(bracket, Bracket):
                bracket = self.read(bracket)
        _check_domain(self._found, bracket)
        with self._lock:
            try:
                return self._fused(self._open(), bracket, clock, progress)
            finally:
                if not self.reads_ahead:  # the next bracket is decoded where the tensors were
                    self._give_back()

    def close(self) -> None:
        """Give back what the runtime holds."""
        with self._lock:
            self._closed = True
            self._give_back()

    def __enter__(self) -> Fuser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _within(self, path: Path, budget: float, threads: int) -> Path:
        """The artifact with the largest tile that fits `budget` MiB, and what is left to decode."""
        chosen, usage = within(path, budget, threads=threads)
        size = read_manifest(chosen.parent).size
        self._room = (budget - usage.modules) * 2**20
        self._notes = (
            f"tiles of {size[0]}×{size[1]}, for which {usage.at(size):.0f} MB are predicted",
        )
        return chosen

    def _open(self) -> Runner:
        if self._closed:
            raise ArtifactError("this Fuser is closed", fix="make another one")
        if self._runner is None:
            self._runner = _opened(self._found, self._threads)
        return self._runner

    def _give_back(self) -> None:
        if self._runner is not None:
            self._runner.close()
        self._runner = None

    def _fused(
        self, runner: Runner, bracket: Bracket, clock: _Clock, progress: Progress | None
    ) -> HDRImage:
        manifest = self._found.manifest
        plan, notes = planned(manifest, bracket.size())
        planes = Spool((*bracket.size(), OUTPUT_CHANNELS[bracket.domain]), "float32")
        feed = Feed(bracket)
        context = None
        if manifest.context is not None:
            with clock.stage("context"):
                context = context_of(self._found, feed, threads=self._threads)
        # A thread a frame: two would leave one of them waiting for the third frame.
        with ThreadPoolExecutor(len(bracket.frames) if self._threads > 1 else 1) as pool:
            for done, tile in enumerate(plan, start=1):
                _run(runner, tile, feed, context, planes, pool, clock)
                if progress is not None:
                    progress(done, len(plan))
        return HDRImage(
            planes,
            domain=bracket.domain,
            camera=bracket.camera,
            orientation=bracket.orientation,
            flips=bracket.flips,
            padding=bracket.padding,
            runner=runner.name,
            tiles=len(plan),
            seconds=dict(clock.seconds),
            notes=(
                f"exposure ratios from {bracket.exposure_source}",
                *bracket.notes,
                *self._notes,
                *notes,
            ),
            source=bracket.frames[1].path,
        )


def fuse(
    artifact: str | Path,
    bracket: str | Path | Bracket,
    *,
    threads: int = 2,
    align: bool = False,
    response: str = "auto",
    memory: str | None = None,
    progress: Progress | None = None,
) -> HDRImage:
    """Fuse one bracket; see `Fuser` and `Fuser.fuse`."""
    with Fuser(artifact, threads=threads, align=align, response=response, memory=memory) as fuser:
        return fuser.fuse(bracket, progress=progress)


def _run(
    runner: Runner,
    tile: Tile,
    feed: Feed,
    context: Context | None,
    planes: Spool,
    pool: ThreadPoolExecutor,
    clock: _Clock,
) -> None:
    """One tile, from the frames' files to the result's."""

    def fill(views: Sequence[Array]) -> None:
        with clock.stage("pack"):
            jobs = [pool.submit(feed.fill, i, tile, view) for i, view in enumerate(views[:3])]
            if context is not None:
                views[3][...] = context.at(tile)[0].transpose(1, 2, 0)
            for job in jobs:
                job.result()

    def take(view: Array) -> None:
        with clock.stage("blend"):
            owned = view[tile.rows.inside(), tile.columns.inside()]
            if not math.isfinite(owned.sum()):
                raise _not_light(runner, tile)
            planes.write(tile.rows.own[0], tile.columns.own[0], owned)

    around = clock.seconds["pack"] + clock.seconds["blend"]
    with clock.stage("run"):
        runner.run_in_place(fill, take)
    clock.seconds["run"] -= clock.seconds["pack"] + clock.seconds["blend"] - around


def _not_light(runner: Runner, tile: Tile) -> ArtifactError:
    rows, columns = tile.rows.own, tile.columns.own
    return ArtifactError(
        f"{runner.name} returns NaN or infinity in rows {rows[0]} to {rows[1]}, columns "
        f"{columns[0]} to {columns[1]} of the network's grid",
        expected="finite light",
        fix="`pockethdr validate` says which artifacts do; FP16 overflows where FP32 does not",
    )


def _opened(found: Deployed, threads: int) -> Runner:
    return open_runner(found.path, found.record.target, threads=threads)


def _check_inputs(found: Deployed, runner: Runner) -> None:
    """Of a manifest only the artifacts' bytes are vouched for, not its own numbers: an input that
    it does not tell of would be left as the memory was before."""
    manifest, context = found.manifest, None
    if manifest.context is not None:
        context = 1, manifest.context.channels, *manifest.context.shape_at(manifest.size)
    shape = 1, CHANNELS[manifest.domain], *manifest.size
    if (runner.shape, runner.context) != (shape, context):
        raise ArtifactError(
            f"{found.path} takes {_inputs(runner.shape, runner.context)}, "
            f"its manifest says {_inputs(shape, context)}",
            expected="the manifest that was exported with it",
            fix="export the model again",
        )


def _inputs(shape: Shape, context: Shape | None) -> str:
    """`tiles of 64×64×8 and a context of 1×1×4`."""
    (_, c, h, w), batch = shape, f"{shape[0]} × " if shape[0] != 1 else ""
    also = f" and a context of {context[2]}×{context[3]}×{context[1]}" if context else ""
    return f"tiles of {batch}{h}×{w}×{c}{also}"


def _check_domain(found: Deployed, bracket: Bracket) -> None:
    if found.manifest.domain != bracket.domain:
        raise ArtifactError(
            f"{found.path} takes {found.manifest.domain} brackets, "
            f"{bracket.name} is {bracket.domain}",
            expected="an artifact and a bracket of one domain",
            fix=f"export the model again with --domain {bracket.domain}",
        )


class _Clock:
    """Sums the wall time of each stage."""

    def __init__(self, before: _Clock | None = None) -> None:
        self.seconds: dict[str, float] = defaultdict(float, before.seconds if before else {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begin
