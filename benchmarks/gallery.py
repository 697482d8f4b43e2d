"""Pictures of what fusing does: each bracket beside its reference frame and a Debevec merge.

    python benchmarks/gallery.py --brackets ../shared/brackets --raw ARTIFACT --rgb ARTIFACT

Writes docs/gallery.md and, for each bracket, one small JPEG of the whole picture and one of a place
at full size, where noise is plain to see. All three pictures of a bracket are developed and toned
by the same code; nothing is retouched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
from PIL import Image, ImageDraw

from pockethdr.brackets.align import aligned
from pockethdr.brackets.bracket import RAW, Bracket, pack
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.files import write_bytes
from pockethdr.runtime.fuse import Fuser
from pockethdr.runtime.image import HDRImage, image_of

WIDTH, CROP, QUALITY = 420, 320, 88


@click.command()
@click.option("--brackets", type=click.Path(path_type=Path), required=True)
@click.option("--raw", type=click.Path(path_type=Path), required=True, help="A raw artifact.")
@click.option("--rgb", type=click.Path(path_type=Path), required=True, help="An rgb artifact.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
def main(brackets: Path, raw: Path, rgb: Path, out: Path) -> None:
    """Write the gallery."""
    pictures = out / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Gallery",
        "",
        "Written by `python benchmarks/gallery.py --brackets ../shared/brackets --raw "
        f"{raw.name} --rgb {rgb.name}`. From left to right: the reference frame alone, a Debevec "
        "merge of the aligned frames, the network. Below each, one place at full size.",
    ]
    for artifact in (raw, rgb):
        with Fuser(artifact) as fuser:
            for folder in find_brackets(brackets, domain=fuser.domain):
                if folder.is_dir():
                    lines += entry(fuser, folder, pictures)
                    click.echo(folder.name)
    write_bytes(out / "gallery.md", ("\n".join(lines) + "\n").encode(), overwrite=True)


def entry(fuser: Fuser, folder: Path, pictures: Path) -> list[str]:
    """The lines of one bracket, its pictures written."""
    bracket = read_bracket(folder, domain=fuser.domain)
    images = [reference(bracket), merged(bracket), fuser.fuse(fuser.read(folder))]
    shown = [image.preview() for image in images]
    place = noisiest(shown[0])
    whole = [scaled(picture) for picture in shown]
    crops = [picture[place] for picture in shown]
    names = {}
    for kind, row in (("whole", whole), ("crop", crops)):
        names[kind] = f"{folder.name}_{kind}.jpg"
        side_by_side(row).save(pictures / names[kind], quality=QUALITY)
    return [
        "",
        f"## {folder.name}",
        "",
        f"{bracket.selection}. Exposure ratios from {bracket.exposure_source}.",
        "",
        *(f"![{folder.name}, {kind}](gallery/{name})" for kind, name in names.items()),
    ]


def reference(bracket: Bracket) -> HDRImage:
    """The middle frame alone; 1.0 = its own clip level, so that what clips is white."""
    pixels = np.asarray(bracket.frames[1].pixels, np.float32)
    linear = pack(pixels) if bracket.domain == RAW else bracket.response(pixels).transpose(2, 0, 1)
    return of(bracket, linear)


def merged(bracket: Bracket) -> HDRImage:
    return of(bracket, weighted_merge(aligned(bracket)))


def of(bracket: Bracket, planes: np.ndarray) -> HDRImage:
    return image_of(
        np.asarray(planes, np.float32),
        bracket.domain,
        bracket.camera,
        orientation=bracket.orientation,
        flips=bracket.flips,
    )


def noisiest(picture: np.ndarray) -> tuple[slice, slice]:
    """The place of mid tones with most fine detail or noise, CROP pixels a side."""
    grey = picture.mean(axis=2).astype(np.float32)
    fine = cv2.absdiff(grey, cv2.GaussianBlur(grey, (0, 0), 2))
    fine[(grey < 25) | (grey > 200)] = 0
    side = min(CROP, *grey.shape)
    busy = cv2.blur(fine, (side, side), borderType=cv2.BORDER_CONSTANT)
    inside = busy[side // 2 : busy.shape[0] - side // 2 or None]
    inside = inside[:, side // 2 : busy.shape[1] - side // 2 or None]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return slice(int(top), int(top) + side), slice(int(left), int(left) + side)


def scaled(picture: np.ndarray) -> np.ndarray:
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    return np.asarray(cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA))


def side_by_side(pictures: list[np.ndarray]) -> Image.Image:
    joined = Image.fromarray(np.concatenate(list(padded(pictures)), axis=1))
    draw = ImageDraw.Draw(joined)
    left = 0
    for picture, title in zip(pictures, ("reference", "merge", "network"), strict=True):
        draw.text((left + 6, 4), title, fill="white", stroke_width=2, stroke_fill="black")
        left += picture.shape[1] + 4
    return joined


def padded(pictures: list[np.ndarray]) -> Iterator[np.ndarray]:
    for picture in pictures[:-1]:
        yield np.pad(picture, ((0, 0), (0, 4), (0, 0)), constant_values=255)
    yield pictures[-1]


if __name__ == "__main__":
    main()
