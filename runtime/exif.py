"""What a photograph says of itself, carried over to what is made of it."""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags, Image

from pockethdr.brackets.formats import exif_of, opened

# They describe the source's own bytes: offsets, sizes, a thumbnail, how its pixels lie.
_LEFT = {
    ExifTags.Base.MakerNote, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight,
    ExifTags.Base.ComponentsConfiguration, ExifTags.Base.ExifInteroperabilityOffset,
}  # fmt: skip
_KEPT = {
    ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.DateTime, ExifTags.Base.Artist,
    ExifTags.Base.Copyright, ExifTags.Base.ImageDescription,
}  # fmt: skip
_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


def carried_exif(source: Path | None) -> Image.Exif:
    """Camera, time, exposure and place of `source`; its orientation is spent, so it is 1.

    A source without EXIF, or that Pillow cannot read, leaves only the orientation.
    """
    carried = Image.Exif()
    carried[ExifTags.Base.Orientation] = 1
    carried[ExifTags.Base.Software] = "PocketHDR"
    try:
        data = source.read_bytes() if source else b""
        found = exif_of(opened(data), data)
    except (OSError, ValueError, SyntaxError):
        return carried
    carried.update({tag: found[tag] for tag in _KEPT & set(found)})
    for ifd in _IFDS:
        tags = {tag: value for tag, value in found.get_ifd(ifd).items() if tag not in _LEFT}
        if tags:
            carried.get_ifd(ifd).update(tags)
    return carried
