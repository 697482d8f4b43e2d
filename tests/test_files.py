"""Files appear whole or not at all, and are told apart by their content."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from pockethdr.errors import PocketError
from pockethdr.files import atomic_path, check_place, sha256_of, size_of, write_bytes


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(PocketError, match="--overwrite"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        _fail_halfway(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    for text in ("one", "two"):
        with atomic_path(path, overwrite=True) as partial:
            assert partial.suffix == ".mlpackage"
            (partial / "Data").mkdir(parents=True)
            (partial / "Data" / text).write_text(text)
    assert [p.name for p in (path / "Data").iterdir()] == ["two"]
    assert os.listdir(tmp_path) == ["m.mlpackage"]


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_path(path) as partial:
        stale = partial
        partial.write_bytes(b"x")
    stale.write_bytes(b"left by a kill")
    write_bytes(path, b"whole", overwrite=True)
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PocketError, match="cannot write"):
        write_bytes(tmp_path / "file" / "out.bin", b"x")


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small tmpfs")
    try:
        write_bytes(tmp_path / "small.bin", b"x")
        with pytest.raises(PocketError, match="disk is full"):
            write_bytes(tmp_path / "big.bin", b"x" * 100_000)
        with pytest.raises(PocketError, match="disk is full"):
            _fill(tmp_path / "b")
        assert os.listdir(tmp_path) == ["small.bin"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_read_only_disk_is_known_before_native_writers_meet_it(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small tmpfs")
    try:
        with (
            pytest.raises(PocketError, match="Read-only file system"),
            atomic_path(tmp_path / "a.exr"),
        ):
            raise RuntimeError("cannot open image file")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_native_writer_that_makes_room_again_says_that_the_disk_was_full(tmp_path: Path) -> None:
    message = "Error while serializing: I/O error: No space left on device (os error 28)"
    with (
        pytest.raises(PocketError, match="disk is full"),
        atomic_path(tmp_path / "a.safetensors"),
    ):
        raise RuntimeError(message)


def test_an_error_of_another_file_keeps_its_own_words(tmp_path: Path) -> None:
    """A full disk for temporary files is not the one that the result goes to."""
    folder, elsewhere = tmp_path / "out", tmp_path / "temporary"
    for place in (elsewhere, tmp_path):
        error = OSError(errno.ENOSPC, "no space for temporary files", str(place))
        with pytest.raises(OSError, match="temporary files") as caught, atomic_path(folder / "a"):
            raise error
        assert caught.value is error
    with (
        pytest.raises(PocketError, match=r"the disk is full: .*a was not written"),
        atomic_path(folder / "a") as partial,
    ):
        raise OSError(errno.ENOSPC, "no space", str(partial / "inside"))
    assert os.listdir(folder) == []


def _fill(path: Path) -> None:
    """As a native writer does: bit by bit, until the disk is full."""
    with atomic_path(path) as partial, partial.open("wb") as stream:
        while stream.write(b"x" * 512):
            stream.flush()


def _fail_halfway(path: Path) -> None:
    with atomic_path(path, overwrite=True) as partial:
        partial.write_bytes(b"half")
        raise RuntimeError


def test_a_folder_that_cannot_be_swapped_in_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, replace = tmp_path / "p.mlpackage", os.replace
    place.mkdir()
    (place / "old").touch()

    def failing(source: Path, target: Path) -> None:
        if ".partial" in Path(source).name:
            raise OSError("no such luck")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with (
        pytest.raises(PocketError, match="cannot write"),
        atomic_path(place, overwrite=True) as p,
    ):
        p.mkdir()
    assert os.listdir(tmp_path) == ["p.mlpackage"]
    assert os.listdir(place) == ["old"]


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "precious.html"
    folder.mkdir()
    (folder / "dear").touch()
    with pytest.raises(PocketError, match="is a folder"):
        write_bytes(folder, b"page", overwrite=True)
    with pytest.raises(PocketError, match="is a folder"):
        check_place(folder, overwrite=False)
    with pytest.raises(PocketError, match="no name"):
        write_bytes(Path(), b"page", overwrite=True)
    assert os.listdir(tmp_path) == ["precious.html"]
    assert os.listdir(folder) == ["dear"]


def test_a_place_that_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    check_place(tmp_path / "new" / "deep.bin", overwrite=False)
    check_place(file, overwrite=True)
    with pytest.raises(PocketError, match="exists"):
        check_place(file, overwrite=False)
    with pytest.raises(PocketError, match="a file lies where a folder is needed"):
        check_place(file / "below.bin", overwrite=True)


def test_sha256_of_a_folder_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("1")
    first = sha256_of(tmp_path)
    assert size_of(tmp_path) == 1
    (tmp_path / "d" / "a").rename(tmp_path / "d" / "b")
    renamed = sha256_of(tmp_path)
    (tmp_path / "d" / "b").write_text("2")
    assert len({first, renamed, sha256_of(tmp_path)}) == 3


def test_a_full_disk_is_known_by_its_words_too(tmp_path: Path) -> None:
    """OpenEXR raises an OSError without a number."""

    def fill() -> None:
        with atomic_path(tmp_path / "a.exr"):
            raise OSError("Failed to write pixel data. No space left on device.")

    with pytest.raises(PocketError, match="the disk is full"):
        fill()


def test_the_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PocketError, match="Permission denied") as caught:
        check_place(tmp_path / "new" / "a.jpg", overwrite=False)
    assert f"check the permissions of {tmp_path}," in str(caught.value.fix)
