"""Networks that look at the whole image: thumbnails through the context artifact, once a shot.

See `export/context.py` for how such a network is cut in two.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pockethdr.errors import ArtifactError
from pockethdr.export.manifest import ContextRecord
from pockethdr.files import sha256_of
from pockethdr.runtime.artifact import Deployed
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.runner import Array, Frames, open_runner
from pockethdr.runtime.tiling import Span, Tile, cut


@dataclass(frozen=True)
class Context:
    """What the tiles of one shot are told of the whole image.

    Attributes:
        values: 1×K×h×w as the context artifact returned them.
        record: of the manifest.
        size: H, W of the image on the network's grid.
    """

    values: Array
    record: ContextRecord
    size: tuple[int, int]

    def at(self, tile: Tile) -> Array:
        """1×K×h×w for one tile; a map enlarged to the image by nearest neighbour, and cut."""
        if self.record.grid is None:
            return self.values
        rows, columns = (
            self._nearest(span, axis) for axis, span in enumerate((tile.rows, tile.columns))
        )
        return np.ascontiguousarray(self.values[:, :, rows[:, None], columns])

    def _nearest(self, span: Span, axis: int) -> np.ndarray:
        stride, cells = self.record.stride, self.values.shape[2 + axis]
        enlarged = self.record.shape_at(self.size)[axis]
        at = np.arange(span.start // stride, -(-(span.start + span.length) // stride))
        return np.minimum(at, enlarged - 1) * cells // enlarged


def inputs_at(tile: Tile, frames: Frames, context: Context | None) -> list[Array]:
    """All that an artifact takes for one tile: its cut of the frames N×C×H×W, and the context."""
    known = [] if context is None else [context.at(tile)]
    return [*(cut(frame, tile) for frame in frames), *known]


def context_of(found: Deployed, feed: Feed, *, threads: int) -> Context | None:
    """Run the context artifact of `found` on thumbnails; None for networks that have none.

    Raises:
        ArtifactError: it is missing, not what was exported, or not what the manifest says.
        Unavailable: this host cannot run it.
    """
    record = found.manifest.context
    if record is None:
        return None
    path, layout = context_file(found), found.record.layout
    runner = open_runner(path, found.record.target, threads=threads, layout=layout)
    with closing(runner):
        frames = [feed.thumbnail(index, runner.shape[2:]) for index in range(3)]
        values = runner.run(frames)
    if values.shape != (1, record.channels, *(record.grid or (1, 1))):
        raise _unusable(f"{path} returns {values.shape}, which its manifest does not say")
    return Context(values, record, feed.size)


def context_file(found: Deployed) -> Path:
    """The context artifact of an artifact that needs one, its content checked.

    Raises:
        ArtifactError: it is missing, or not what was exported.
    """
    file = found.record.context
    if file is None:
        raise _unusable(f"{found.path} needs a context artifact, and its manifest lists none")
    path = found.path.with_name(file.file)
    if not path.exists() or sha256_of(path) != file.sha256:
        raise _unusable(f"{path} is missing or not what was exported; {found.path.name} needs it")
    return path


def _unusable(what: str) -> ArtifactError:
    return ArtifactError(
        what,
        expected="the two files and the manifest as `pockethdr export` wrote them",
        fix="copy the whole folder again, or export again",
    )
