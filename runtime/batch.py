"""Many brackets through one artifact: the next is read while this one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pockethdr.errors import PocketError
from pockethdr.runtime.fuse import Fuser
from pockethdr.runtime.image import HDRImage


def fuse_many(
    fuser: Fuser, folders: Sequence[Path], save: Callable[[Path, HDRImage], str]
) -> Iterator[tuple[Path, str | PocketError]]:
    """Each folder with what `save` said of its image, or with what was wrong with it.

    One bad bracket does not stop the others. Anything but a `PocketError` does: a full disk, a bug.
    """
    with ThreadPoolExecutor(1) as reader:
        pending = None
        for index, folder in enumerate(folders):
            current = pending or reader.submit(fuser.read, folder)
            following = folders[index + 1 : index + 2] if fuser.reads_ahead else []
            pending = reader.submit(fuser.read, following[0]) if following else None
            try:
                yield folder, save(folder, fuser.fuse(current.result()))
            except PocketError as error:
                yield folder, error
