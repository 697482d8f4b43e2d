"""Alignment for 16 KiB pages, which Android 15 may have: of zip entries and of libraries.

Debian's zipalign knows 4 KiB pages alone. The padding is an extra field of Android's own (0xd935)
that names its alignment, so that apksigner keeps it.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

PAGE = 16384
_WORD = 4
_ALIGNMENT_FIELD = 0xD935
_LOCAL_HEADER, _FIELD_HEADER = 30, 6
_PT_LOAD = 1
# The same APK from the same input: an old date that apksigner accepts.
_DATE = (1981, 1, 1, 1, 1, 2)


def aligned_copy(source: Path, target: Path) -> None:
    """Copy a zip file, each stored entry aligned: libraries to a page, the rest to four bytes."""
    with (
        zipfile.ZipFile(source) as old,
        target.open("wb") as file,
        zipfile.ZipFile(file, "w") as new,
    ):
        for entry in old.infolist():
            made = zipfile.ZipInfo(entry.filename, _DATE)
            made.compress_type, made.external_attr = entry.compress_type, entry.external_attr
            if entry.compress_type == zipfile.ZIP_STORED:
                made.extra = _padding(file.tell(), entry.filename)
            new.writestr(made, old.read(entry))


def misaligned_entries(archive: Path) -> list[str]:
    """Stored libraries that do not start at a page, and other stored entries not at a word."""
    bad = []
    with zipfile.ZipFile(archive) as entries, archive.open("rb") as file:
        for entry in entries.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                continue
            file.seek(entry.header_offset + _LOCAL_HEADER - 4)
            name, extra = struct.unpack("<HH", file.read(4))
            if (entry.header_offset + _LOCAL_HEADER + name + extra) % _alignment(entry.filename):
                bad.append(entry.filename)
    return bad


def misaligned_segments(library: bytes) -> list[int]:
    """The alignments of loaded segments of a 64-bit ELF file that are less than a page."""
    (offset,) = struct.unpack_from("<Q", library, 0x20)
    size, count = struct.unpack_from("<HH", library, 0x36)
    headers = [struct.unpack_from("<IIQQQQQQ", library, offset + i * size) for i in range(count)]
    return [header[7] for header in headers if header[0] == _PT_LOAD and header[7] < PAGE]


def _padding(start: int, name: str) -> bytes:
    alignment = _alignment(name)
    unpadded = start + _LOCAL_HEADER + len(name.encode()) + _FIELD_HEADER
    pad = -unpadded % alignment
    return struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + pad, alignment) + bytes(pad)


def _alignment(name: str) -> int:
    return PAGE if name.endswith(".so") else _WORD
