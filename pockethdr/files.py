"""Files that appear whole or not at all, and what tells one from another.

Below all rooms, beside `errors`: whatever writes or hashes a file does it with these.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pockethdr.errors import PocketError


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, or of a folder's sorted `path\\0sha256\\n` lines."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    lines = hashlib.sha256()
    for name, file in sorted((p.relative_to(path).as_posix(), p) for p in _files_of(path)):
        lines.update(f"{name}\0{sha256_of(file)}\n".encode())
    return lines.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in _files_of(path))


def _files_of(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


def write_bytes(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a whole file or nothing."""
    with atomic_path(path, overwrite=overwrite) as partial:
        partial.write_bytes(data)


@contextlib.contextmanager
def atomic_path(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to, file or folder; it becomes `path` when the block ends well.

    The temporary name keeps the suffix, since converters look at it, and is the same for every run,
    so that what a killed run left behind is cleared by the next.

    Raises:
        PocketError: `path` exists and may not be overwritten, its folder cannot be written, or
            the disk is full. Whatever fails, `path` is as before and nothing is left beside it.
        OSError: of a file elsewhere that the block reads or writes.
    """
    refuse_existing(path, overwrite)
    _check_name(path)
    check_folder(path.parent)  # native writers say less about what is wrong
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
    except OSError as error:
        raise _explained(error, path) from error
    try:
        yield partial
        refuse_existing(path, overwrite)
        _sync(partial)
        _swap(partial, path)
    except OSError as error:
        if _is_elsewhere(error, path.parent):
            raise
        raise _explained(error, path) from error
    except Exception as error:
        # Native writers report a full disk as an error of their own, some after making room again.
        if os.strerror(errno.ENOSPC) in str(error) or _disk_is_full(path.parent):
            raise _explained(OSError(errno.ENOSPC, "no space left"), path) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises PocketError where something lies that may not be replaced."""
    if path.exists() and not overwrite:
        raise PocketError(
            f"{path} exists", expected="a new path", fix="add --overwrite, or choose another place"
        )


def check_place(path: Path, overwrite: bool) -> None:
    """Say at once what writing a file there would say after all the work.

    Raises:
        PocketError: `path` is a folder, exists and may not be overwritten, or cannot be written.
    """
    _check_name(path)
    _check_no_folder(path)  # before --overwrite is named, which would not help
    refuse_existing(path, overwrite)
    check_folder(path.parent)


def check_new_folder(folder: Path) -> None:
    """Say before the work that a folder is not new, nor empty.

    Raises:
        PocketError: there is something in it, it is a file or below one, or may not be written to.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise PocketError(
            f"{folder}: holds files already",
            expected="a new or empty folder",
            fix="name another folder, or remove this one",
        )
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Say before the work that nothing can be written into `folder`.

    Raises:
        PocketError: it is a file or below one, or this user may not write to it.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise _explained(NotADirectoryError(), folder)
    if not os.access(place, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        code = errno.EROFS if is_read_only else errno.EACCES
        raise _explained(OSError(code, os.strerror(code)), folder, place)


def _check_name(path: Path) -> None:
    if not path.name:
        raise PocketError(f"{path}: no name", expected="a file or folder to write")


def _check_no_folder(path: Path) -> None:
    """Files replace files: whatever a user keeps in a folder of that name must stay."""
    if path.is_dir():
        raise PocketError(f"{path} is a folder", expected="a file name", fix="choose another name")


def _explained(error: OSError, path: Path, folder: Path | None = None) -> PocketError:
    """In our words.

    Args:
        folder: whose permissions matter, where that is not the one that `path` lies in.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
        return PocketError(
            f"the disk is full: {path} was not written",
            fix="free some space, then run the same command again",
        )
    if isinstance(error, NotADirectoryError | FileExistsError):
        return PocketError(
            f"cannot write {path}: a file lies where a folder is needed", fix="choose another place"
        )
    return PocketError(
        f"cannot write {path}: {error.strerror or error}",
        expected="a folder that this user may write to",
        fix=f"check the permissions of {folder or path.parent}, or choose another place",
    )


def _is_elsewhere(error: OSError, folder: Path) -> bool:
    """Whether it names a file, and one outside of `folder`."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return False
    return not Path(os.fsdecode(error.filename)).absolute().is_relative_to(folder.absolute())


def _disk_is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 64 * 1024
    except OSError:
        return False


def _sync(path: Path) -> None:
    for file in _files_of(path):
        _fsync(file, os.O_RDWR)
    for folder in [path, *path.rglob("*")] if path.is_dir() else []:
        if folder.is_dir():
            _fsync(folder, os.O_RDONLY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(partial: Path, path: Path) -> None:
    """Rename; a folder in the way steps aside first, since a rename cannot replace one."""
    aside = path.with_name(f".{path.stem}.old{path.suffix}")
    if not partial.is_dir():
        _check_no_folder(path)
    if path.is_dir():
        _remove(aside)
        os.replace(path, aside)
    try:
        os.replace(partial, path)
    except OSError:
        if aside.exists():
            os.replace(aside, path)
        raise
    _fsync(path.parent, os.O_RDONLY)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
