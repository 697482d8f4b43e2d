"""OpenEXR files in and out, as plain H×W×3 float32 arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pockethdr.errors import BracketError
from pockethdr.files import atomic_path

_HALF_MAX = float(np.finfo(np.float16).max)


def read_exr(path: Path) -> NDArray[np.float32]:
    """Read the RGB channels of an OpenEXR file (alpha dropped, grey repeated three times).

    Returns:
        H×W×3 float32, scene linear, exactly the stored values (half widened).

    Raises:
        BracketError: no such file, not an EXR, truncated, or without R, G, B or Y channels.
    """
    import OpenEXR

    if not path.is_file():
        raise BracketError(f"{path}: no such file", expected="an OpenEXR file")
    try:
        with OpenEXR.File(str(path)) as file:
            return _rgb(file.channels(), path)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise BracketError(
            f"{path}: cannot be read as OpenEXR ({_one_line(error)})",
            expected="a complete OpenEXR file",
            fix="copy the file again; it is truncated or of another format",
        ) from error


def write_exr(
    path: Path,
    image: NDArray[np.floating],
    *,
    half: bool = True,
    attributes: dict[str, Any] | None = None,
) -> None:
    """Write H×W×3 linear RGB as a ZIP-compressed scan-line EXR, whole or not at all.

    Args:
        image: H×W×3; with `half`, values are clipped to the half range ±65504 first.
        half: 16-bit float channels (what viewers expect); 32-bit float otherwise.
        attributes: further header entries (strings, numbers).

    Raises:
        ValueError: the array is not H×W×3 (a bug of the caller).
        PocketError: the folder is not writable, or the disk is full.
    """
    import OpenEXR

    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"write_exr wants H×W×3, got {image.shape}")
    pixels = _as_half(image) if half else np.ascontiguousarray(image, dtype=np.float32)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with (
        atomic_path(path, overwrite=True) as partial,
        OpenEXR.File({**header, **(attributes or {})}, {"RGB": pixels}) as file,
    ):
        file.write(str(partial))


class StripExr:
    """A half-float EXR written strip by strip, as a context manager.

    Args:
        size: H, W.
        attributes: of the header: strings and numbers; None is left out.
    """

    def __init__(self, path: Path, size: tuple[int, int], attributes: dict[str, Any]) -> None:
        import Imath  # type: ignore[import-untyped]
        import OpenEXR

        header = OpenEXR.Header(size[1], size[0])
        half = Imath.Channel(Imath.PixelType(Imath.PixelType.HALF))
        header["channels"] = dict.fromkeys("RGB", half)
        header["compression"] = Imath.Compression(Imath.Compression.ZIP_COMPRESSION)
        for name, value in attributes.items():
            if value is not None:
                header[name] = value.encode() if isinstance(value, str) else float(value)
        self._file = OpenEXR.OutputFile(str(path), header)

    def append(self, strip: NDArray[np.float32]) -> None:
        """The next rows, linear RGB 3×H×W; values beyond ±65504 are clipped."""
        planes = {c: _as_half(plane).tobytes() for c, plane in zip("RGB", strip, strict=True)}
        self._file.writePixels(planes, strip.shape[1])

    def __enter__(self) -> StripExr:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _rgb(channels: dict[str, Any], path: Path) -> NDArray[np.float32]:
    for name in ("RGB", "RGBA"):
        if name in channels:
            return np.ascontiguousarray(channels[name].pixels[..., :3], dtype=np.float32)
    if "Y" in channels and not {"RY", "BY"} & channels.keys():
        return np.repeat(channels["Y"].pixels[..., None].astype(np.float32), 3, axis=2)
    raise BracketError(
        f"{path}: has channels {', '.join(sorted(channels))}",
        expected="R, G, B (optionally A), or Y alone",
        fix="convert it to an RGB EXR",
    )


def _as_half(image: NDArray[np.floating]) -> NDArray[np.float16]:
    return np.ascontiguousarray(np.clip(image, -_HALF_MAX, _HALF_MAX), dtype=np.float16)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
