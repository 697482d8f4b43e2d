"""Entries and libraries aligned for 16 KiB pages."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from android_demo.ci.zip16 import aligned_copy, misaligned_entries, misaligned_segments


def test_aligned_copy_aligns_what_is_stored(tmp_path: Path) -> None:
    plain, aligned = tmp_path / "plain.zip", tmp_path / "aligned.zip"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("a.txt", "odd")
        archive.writestr("lib/arm64-v8a/libx.so", bytes(100))
        archive.writestr("deflated.txt", "x" * 500, zipfile.ZIP_DEFLATED)

    assert "lib/arm64-v8a/libx.so" in misaligned_entries(plain)

    aligned_copy(plain, aligned)

    assert misaligned_entries(aligned) == []
    with zipfile.ZipFile(aligned) as archive:
        assert archive.read("a.txt") == b"odd"
        assert archive.read("lib/arm64-v8a/libx.so") == bytes(100)


def test_segments_of_less_than_a_page_are_found() -> None:
    assert misaligned_segments(_elf(16384)) == []
    assert misaligned_segments(_elf(4096)) == [4096]


def _elf(alignment: int) -> bytes:
    """A 64-bit ELF header and one loaded segment."""
    header = bytearray(64)
    struct.pack_into("<Q", header, 0x20, 64)
    struct.pack_into("<HH", header, 0x36, 56, 1)
    return bytes(header) + struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, alignment)
