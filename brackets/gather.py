"""Collects HDR images under free licences into one cache to simulate brackets from.

Each source is a row of `SOURCES`. A source that this host cannot reach is left out with its reason
and what to install; the rest goes on. Nothing of the cache belongs into a repository.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import srgb_to_linear
from pockethdr.brackets.exr import read_exr, write_exr
from pockethdr.brackets.invent import invented_scene
from pockethdr.brackets.sources import Image, split_of, tidied, write_index
from pockethdr.errors import PocketError, Unavailable
from pockethdr.files import sha256_of

Found = Iterator[tuple[str, NDArray[np.float32]]]
_PMNDRS = "@pmndrs/assets@1.7.0"
_SECONDS = 300
# The same panoramas as in blender-data, in a lower resolution.
_TWICE = ("sunrise",)
_PHOTOGRAPHS = (
    "astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "rocket",
)  # fmt: skip
_INVENTED = (*range(64), 1000, 1001, 1002)


@dataclass(frozen=True)
class Source:
    """Where images come from: `find` yields their names and H×W×3 linear pixels."""

    name: str
    licence: str
    credit: str
    find: Callable[[Path | None], Found]


def gather(
    cache: Path, brackets: Path | None, say: Callable[[str], None]
) -> tuple[list[Image], dict[str, str]]:
    """Fill `cache`; return its images, and for each source left out the reason.

    Args:
        brackets: a folder with `hdrgt_*` folders of EXR and Ultra HDR images, if there is one.
        say: receives a line per source.

    Raises:
        PocketError: the cache cannot be written, or not one image was found.
    """
    _make(cache)
    images: list[Image] = []
    skipped: dict[str, str] = {}
    for source in SOURCES:
        try:
            kept = [_keep(cache, source, *found) for found in source.find(brackets)]
        except Unavailable as reason:
            skipped[source.name] = str(reason)
            say(f"{source.name}: skipped: {reason}")
            continue
        images += kept
        say(f"{source.name}: {len(kept)} images, {source.licence}")
    if not images:
        raise PocketError(f"{cache}: no source could be reached", fix="see the reasons above")
    write_index(cache, images)
    return images, skipped


def _make(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PocketError(f"{cache}: cannot be written ({error})", expected="a folder") from error


def _keep(cache: Path, source: Source, stem: str, image: NDArray[np.float32]) -> Image:
    name = f"{source.name}_{stem}"
    path = cache / f"{name}.exr"
    write_exr(path, tidied(_mended(image)).astype(np.float32))
    return Image(name, source.credit, source.licence, split_of(name), sha256_of(path))


def _mended(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lossy compression rings below zero beside the sun: take the neighbourhood's median there."""
    image = np.nan_to_num(np.ascontiguousarray(image, np.float32))
    return np.where(image < 0, cv2.medianBlur(image, 5), image)


def _shared(folder: str) -> Callable[[Path | None], Found]:
    def find(brackets: Path | None) -> Found:
        where = None if brackets is None else brackets / folder
        if where is None or not where.is_dir():
            raise Unavailable(f"no {folder} folder", install="name its parent by --brackets")
        for path in sorted([*where.glob("*.exr"), *where.glob("*.jpg")]):
            yield path.stem, read_exr(path) if path.suffix == ".exr" else _ultra_hdr(path)

    return find


def _ultra_hdr(path: Path) -> NDArray[np.float32]:
    import imagecodecs

    image = np.asarray(imagecodecs.ultrahdr_decode(path.read_bytes()))
    return image[..., :3].astype(np.float32)


def _blender(brackets: Path | None) -> Found:
    """Eight panoramas; four of them are those of hdrgt_polyhaven."""
    inside = Path("usr/share/blender/datafiles/studiolights/world")
    if (Path("/") / inside).is_dir():
        yield from _exr_files(Path("/") / inside)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _run(["apt-get", "download", "blender-data"], folder, "Debian's apt-get and dpkg-deb")
        (package,) = folder.glob("*.deb")
        _run(["dpkg-deb", "-x", package.name, "x"], folder, "Debian's apt-get and dpkg-deb")
        yield from _exr_files(folder / "x" / inside)


def _exr_files(folder: Path) -> Found:
    for path in sorted(folder.glob("*.exr")):
        yield path.stem, read_exr(path)


def _pmndrs(brackets: Path | None) -> Found:
    """Panoramas packed as base64 into JavaScript modules."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _run(["npm", "pack", _PMNDRS], folder, "Node.js with npm")
        (package,) = folder.glob("*.tgz")
        with tarfile.open(package) as archive:
            archive.extractall(folder, filter="data")
        for module in sorted((folder / "package" / "hdri").glob("*.exr.js")):
            stem = module.name.removesuffix(".exr.js")
            data = re.search(r"base64,([A-Za-z0-9+/=]+)", module.read_text())
            if data is None or stem in _TWICE:
                continue
            file = folder / f"{stem}.exr"
            file.write_bytes(base64.b64decode(data.group(1)))
            yield stem, read_exr(file)


def _photographs(brackets: Path | None) -> Found:
    """Photographs that scikit-image ships, made linear again, their highlights lit anew."""
    try:
        import skimage.data
    except ImportError:
        raise Unavailable("no scikit-image", install="pip install 'pockethdr[torch]'") from None
    for name in _PHOTOGRAPHS:
        coded = np.asarray(getattr(skimage.data, name)())
        coded = np.repeat(coded[..., None], 3, axis=2) if coded.ndim == 2 else coded[..., :3]
        yield name, relit(coded, np.random.default_rng(len(name)))


def relit(coded: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """8-bit sRGB → linear, with what is nearly white taken for a lamp or sky of 4 to 60."""
    linear = srgb_to_linear(coded.astype(np.float32) / 255)
    white = np.clip((linear.max(axis=2, keepdims=True) - 0.7) / 0.3, 0.0, 1.0) ** 2
    gain = np.exp(rng.uniform(np.log(4.0), np.log(60.0)))
    return np.asarray(linear * (1 + white * (gain - 1)), np.float32)


def _invented(brackets: Path | None) -> Found:
    for seed in _INVENTED:
        yield str(seed), invented_scene(seed)


def _run(command: list[str], folder: Path, needs: str) -> None:
    """Raises Unavailable when the tool is missing, fails, or takes too long."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"no {command[0]}", install=needs)
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_SECONDS)
    except subprocess.SubprocessError as error:
        output = getattr(error, "stderr", None) or b""
        last = output.decode(errors="replace").strip().splitlines()[-1:] or [str(error)]
        raise Unavailable(f"`{' '.join(command)}`: {last[0]}", install="a network") from error


SOURCES = (
    Source("openexr", "BSD-3-Clause", "openexr-images", _shared("hdrgt_openexr")),
    Source(
        "pixel6pro_ultrahdr",
        "CC BY 4.0",
        "Mishaal Rahman, Ultra_HDR_Samples",
        _shared("hdrgt_pixel6pro_ultrahdr"),
    ),
    Source("blender", "CC0", "Poly Haven, in Debian's blender-data", _blender),
    Source("pmndrs", "CC0", f"Poly Haven, in npm's {_PMNDRS}", _pmndrs),
    Source("scikit_image", "CC0 or public domain", "scikit-image's sample data", _photographs),
    Source("invented", "Apache-2.0", "pockethdr.brackets.invent", _invented),
)
