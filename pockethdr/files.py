"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pockethdr.errors import PocketError


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, flush it to the disk, and rename it.

    Raises:
        PocketError: the folder is missing, not writable, or full; `path` is as it was before.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise PocketError(
            f"cannot write {path}: {error.strerror or error}",
            fix="choose a folder that exists, is writable and has room",
        ) from error
