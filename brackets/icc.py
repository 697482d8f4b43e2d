"""ICC profiles: photographs in other colours than sRGB become sRGB while they are read.

Phones write Display P3, cameras may write Adobe RGB. The codes themselves are converted, by
LittleCMS, so that whatever follows (tables of codes, camera response, the encoded half of the
network's input) meets sRGB only. Colours outside sRGB are clipped to it.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from pockethdr.errors import BracketError

# In 8-bit codes. Profiles that say sRGB differ by rounding; gamma 2.2 with sRGB's primaries by 6.
_SAME = 2


def foreign_profile(path: Path, icc: bytes | None) -> str | None:
    """The name of a profile that is not sRGB's; None for sRGB, or where there is no profile.

    Raises:
        BracketError: what stands in the file is no profile of RGB colours.
    """
    try:
        return None if icc is None or _is_srgb(icc) else _name(icc)
    except imagecodecs.CmsError as error:
        raise BracketError(
            f"{path}: its colour profile cannot be used ({error})",
            expected="an ICC profile of RGB colours, or none",
            fix=f"save it as sRGB; or, if it is sRGB, exiftool -ICC_Profile= {path}",
        ) from error


def to_srgb(
    path: Path, pixels: NDArray[np.unsignedinteger], icc: bytes | None
) -> NDArray[np.unsignedinteger]:
    """H×W×3 codes of 8 or 16 bits, as sRGB codes; the very same where they are sRGB already.

    Raises:
        BracketError: as `foreign_profile`.
    """
    foreign = foreign_profile(path, icc) is not None
    return _converted(pixels, icc) if foreign and icc is not None else pixels


@lru_cache(maxsize=16)
def _is_srgb(icc: bytes) -> bool:
    """Whether no colour moves: asked of colours, since names and numbers of profiles vary."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    moved = _converted(colours, icc).astype(int) - colours
    return bool(np.abs(moved).max() <= _SAME)


def _converted(pixels: NDArray[np.unsignedinteger], icc: bytes) -> NDArray[np.unsignedinteger]:
    # LittleCMS's short cut is exact to 0.7 of 255 codes for 8 bits; for 16, off by up to 10.
    exact = imagecodecs.CMS.FLAGS.NOOPTIMIZE if pixels.dtype == np.uint16 else None
    return np.asarray(
        imagecodecs.cms_transform(
            pixels,
            icc,
            imagecodecs.cms_profile("srgb"),
            colorspace="rgb",
            outcolorspace="rgb",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=exact,
        )
    )


def _name(icc: bytes) -> str:
    described = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.profile_description
    return " ".join((described or "").split()) or "a profile without a name"
