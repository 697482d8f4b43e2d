"""Which files are brackets, and of which kind, told without decoding a pixel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pockethdr.brackets import metadata
from pockethdr.brackets.bracket import RAW, RGB
from pockethdr.brackets.formats import is_photograph, read_header
from pockethdr.errors import BracketError

NPZ, METADATA, KALANTARI, DNG, PHOTOGRAPHS = "npz", "metadata", "kalantari", "dng", "photographs"
EXPOSURES = "exposure.txt"
#: How messages name a domain.
A = {RAW: "a raw", RGB: "an rgb"}
# Pictures that phones make, and that nothing here decodes.
_UNREAD = {".heic", ".heif", ".avif", ".webp", ".jxl"}
_EXPECTED = (
    "metadata.json with its images, three or more JPEG/PNG/TIFF with EXIF exposure times, "
    "Mobile-HDR .npz, a Kalantari folder with exposure.txt, or three DNG"
)


@dataclass(frozen=True)
class Found:
    """Brackets in a fixed order, and a sentence for whatever looked like one and was left out."""

    brackets: tuple[Path, ...]
    notes: tuple[str, ...]


def search(root: Path, *, domain: str | None = None) -> Found:
    """Brackets at or under `root`, sorted by path; those of another domain are noted.

    Raises:
        BracketError: `root` does not exist, or holds no bracket (of the domain).
    """
    _check_exists(root)
    candidates, notes = _candidates(root)
    kept: list[Path] = []
    others: set[str | None] = set()
    for path in candidates:
        found = domain_of(path, domain)
        if domain is None or found in (None, domain):
            kept.append(path)
        else:
            others.add(found)
            notes.append(f"{path}: {A[found]} bracket, left out of {domain}")
    if not kept:
        listed = "".join(f"\n  {note}" for note in notes)
        there = others.pop() if others else None
        raise BracketError(
            f"{root}: no {domain + ' ' if domain else ''}bracket in it{listed}",
            expected=f"{domain} brackets" if there else _EXPECTED,
            fix=f"use a model of the {there} domain (--domain {there}), or another folder"
            if there
            else f"check `ls {root}`",
        )
    return Found(tuple(kept), tuple(notes))


def layout_of(path: Path, domain: str | None = None) -> str:
    """The kind of bracket that `path` (a folder, or one .npz) is meant to be.

    Args:
        domain: which of the two is wanted where a phone saved DNG and JPEG of each exposure;
            None for DNG.

    Raises:
        BracketError: missing, empty, or nothing that could be a bracket.
    """
    _check_exists(path)
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return NPZ
        raise BracketError(f"{path}: a single file", expected="a bracket folder or one .npz")
    names = _names(path)
    layout = _layout(names, domain)
    if layout is None:
        raise _no_exposures(path, names)
    return layout


def _no_exposures(folder: Path, names: set[str]) -> BracketError:
    below, _ = _candidates(folder)
    if below:
        return BracketError(
            f"{folder}: a folder of {len(below)} bracket{'s' * (len(below) != 1)}, and none itself",
            expected="a bracket",
            fix=f"name one, such as {below[0]}; `fuse --batch` takes all of them",
        )
    if unread := _unread(names):
        return BracketError(
            f"{folder}: {unread}",
            expected=_EXPECTED,
            fix="convert them to JPEG with their EXIF, or let the phone save DNG or JPEG",
        )
    what = "no exposures in it" if names else "an empty folder"
    return BracketError(f"{folder}: {what}", expected=_EXPECTED)


def domain_of(path: Path, wanted: str | None = None) -> str | None:
    """`raw` or `rgb`, from the layout alone; None for a broken metadata.json.

    Such a folder is left out of neither domain: reading it stops the run by name. One that has
    both is of the domain that is wanted.
    """
    layout = layout_of(path, wanted)
    if layout == METADATA:
        try:
            return RAW if "cfa_pattern" in metadata.load(path / metadata.NAME) else RGB
        except BracketError:
            return None
    return RAW if layout in (NPZ, DNG) else RGB


def dng_files(folder: Path) -> list[Path]:
    """The DNG files of a folder, sorted."""
    return _files(folder, ".dng")


def shared_names(brackets: Sequence[Path]) -> dict[Path, str]:
    """For each whose own name others have, too: as much of its path as tells it apart."""
    whole = {path: path.resolve() for path in brackets}
    parts = {
        path: (full.with_suffix("") if full.suffix.lower() == ".npz" else full).parts
        for path, full in whole.items()
    }
    names = {}
    for path, own in parts.items():
        others = [other for other in parts.values() if other is not own]
        depths = (n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others))
        if (depth := next(depths, 1)) > 1:
            names[path] = "/".join(own[-depth:])
    return names


def npz_files(folder: Path) -> list[Path]:
    """The .npz files of a folder, sorted (the official script leaves their order to the disk)."""
    return _files(folder, ".npz")


def _files(folder: Path, suffix: str) -> list[Path]:
    """Sorted, without hidden ones, such as macOS lays beside each file on foreign disks."""
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() == suffix and not p.name.startswith(".")
    )


def _candidates(root: Path) -> tuple[list[Path], list[str]]:
    if root.is_file():
        layout_of(root)
        return [root], []
    found: list[Path] = []
    notes: list[str] = []
    for folder, folders in _walked(root):
        names = _names(folder)
        layout = _layout(names)
        note = _why_none(folder, names, layout, with_folders=bool(folders))
        if note:
            notes.append(f"{folder}: {note}")
        elif layout == NPZ:
            found += npz_files(folder)
        elif layout:
            found.append(folder)
            if folders:
                notes.append(f"{folder}: a bracket; not looked into {', '.join(folders)} in it")
            folders.clear()
    return sorted(found), notes


def _walked(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder under `root` once, behind links too, and the folders in it that will follow."""
    seen = set[Path]()
    for place, folders, _ in os.walk(root, followlinks=True):
        folder = Path(place)
        if (whole := folder.resolve()) in seen:
            folders.clear()
            continue
        seen.add(whole)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield folder, folders


def _layout(names: set[str], domain: str | None = None) -> str | None:
    suffixes = {Path(name).suffix.lower() for name in names}
    photographs = [name for name in names if is_photograph(Path(name))]
    if ".npz" in suffixes:
        return NPZ
    if metadata.NAME in names:
        return METADATA
    if EXPOSURES in names:
        return KALANTARI
    if ".dng" in suffixes and not (domain == RGB and len(photographs) > 2):
        return DNG
    return PHOTOGRAPHS if photographs else None


def _why_none(folder: Path, names: set[str], kind: str | None, *, with_folders: bool) -> str | None:
    """Why a folder with something in it is no bracket; None where it may be one or is bare.

    Loose pictures above folders of brackets, such as results, are none: a bracket has three.
    """
    if kind == METADATA:
        try:
            collection = metadata.is_collection(metadata.load(folder / metadata.NAME))
        except BracketError:
            return None
        return (
            "its metadata.json is of pictures or archives, not of a bracket's exposures"
            if collection
            else None
        )
    photographs = sorted(name for name in names if is_photograph(Path(name)))
    if kind == PHOTOGRAPHS and len(photographs) == 1:
        return f"a single photograph ({photographs[0]}), no bracket"
    if kind == PHOTOGRAPHS and with_folders and _fewer_than_three(folder, photographs):
        listed = ", ".join(photographs[:3]) + ", …" * (len(photographs) > 3)
        return f"fewer than three exposures ({listed}), no bracket"
    return _unread(names) if kind is None else None


def _fewer_than_three(folder: Path, photographs: Sequence[str]) -> bool:
    """Whether so few are not of our own making; headers are read until three are found."""
    return len(list(islice((n for n in photographs if not _is_ours(folder / n)), 3))) < 3


def _is_ours(path: Path) -> bool:
    try:
        return read_header(path).is_ours
    except BracketError:
        return False  # reading the bracket will say what is wrong with it


def _unread(names: set[str]) -> str | None:
    """What to say of pictures that nothing here decodes."""
    found = sorted(name for name in names if Path(name).suffix.lower() in _UNREAD)
    return f"holds {', '.join(found[:3])}, which PocketHDR does not read" if found else None


def _names(folder: Path) -> set[str]:
    try:
        return {p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")}
    except OSError as error:
        raise BracketError(
            f"{folder}: {error.strerror or error}",
            expected="a readable folder",
            fix=f"check it with `ls -ld {folder}`",
        ) from error


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise BracketError(
            f"{path}: no such file or folder", expected=_EXPECTED, fix=f"check `ls {path.parent}`"
        )
