"""What the Kotlin core is held against: arrays that Python computes with `pockethdr` itself.

Raw little-endian files and one `goldens.properties`, as `core/src/test/…/Goldens.kt` reads them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from android_demo.ci.artifacts import DOMAIN, MODEL, PRECISIONS, simulated_bracket
from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.burst import read_burst
from pockethdr.brackets.formats import read_header
from pockethdr.brackets.layout import PHOTOGRAPHS
from pockethdr.brackets.read import read_bracket
from pockethdr.brackets.response import FIXED
from pockethdr.errors import BracketError
from pockethdr.export.manifest import Manifest, read_manifest
from pockethdr.runtime.image import image_of, upright
from pockethdr.runtime.runner import open_runner
from pockethdr.runtime.tiling import run_tiled, tiles

# XNNPACK's float kernels sum in an order that the processor decides.
FP16_TOLERANCE = 1e-4
_CROP = (slice(200, 260), slice(300, 376))


class Goldens:
    """A folder of goldens being written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.properties = folder, dict[str, str]()

    def put(self, name: str, array: np.ndarray) -> None:
        little = array.astype(array.dtype.newbyteorder("<"))
        (self.folder / name).write_bytes(np.ascontiguousarray(little).tobytes())

    def say(self, **values: Any) -> None:
        """A property each; `__` stands for a dot, several values are separated by spaces."""
        for key, value in values.items():
            many = isinstance(value, Iterable) and not isinstance(value, str)
            self.properties[key.replace("__", ".")] = (
                " ".join(map(str, value)) if many else str(value)
            )

    def close(self) -> None:
        lines = (f"{key}={value}\n" for key, value in sorted(self.properties.items()))
        (self.folder / "goldens.properties").write_text("".join(lines))


def write_goldens(folder: Path, exports: Mapping[str, Path]) -> None:
    """Everything the JVM tests need, with the artifacts of `exports` (model → export folder)."""
    goldens = Goldens(folder)
    say_spec(goldens, read_manifest(exports[MODEL]))
    _put_tiling(goldens)
    _put_exposures(goldens)
    _put_codes(goldens)
    _put_pictures(goldens)
    scene = _cropped(read_bracket(simulated_bracket(), domain="rgb"))
    put_bracket(goldens, scene)
    for model, out in exports.items():
        _put_outputs(goldens, model, out, scene)
    goldens.say(fp16__tolerance=FP16_TOLERANCE)
    for precision in PRECISIONS:
        goldens.say(**{precision: [f"{model}_{precision}" for model in exports]})
    goldens.close()


def put_bracket(goldens: Goldens, bracket: Bracket) -> None:
    """The frames as H×W×3 bytes, and their exposures."""
    for index, frame in enumerate(bracket.frames):
        goldens.put(f"bracket_{index}.u8", np.rint(frame.pixels * 255).astype(np.uint8))
    goldens.say(bracket__size=bracket.size()[::-1], bracket__exposures=bracket.ratios)


def say_spec(goldens: Goldens, manifest: Manifest) -> None:
    """How the artifacts are tiled."""
    if manifest.halo is None:
        raise ValueError(f"{manifest.model} sees its whole input: it cannot be tiled exactly")
    goldens.say(model=manifest.model, spec=[*manifest.size, manifest.halo, manifest.multiple])


def _put_tiling(goldens: Goldens) -> None:
    cases = [
        (size, tile, halo, multiple)
        for size in (1, 57, 63, 64, 65, 128, 201, 3024)
        for tile, halo, multiple in ((64, 0, 1), (64, 10, 2), (256, 26, 2), (96, 20, 8), (96, 6, 4))
    ]
    for index, (size, tile, halo, multiple) in enumerate(cases):
        columns = [t.columns for t in tiles((1, size), (tile, tile), halo, multiple)]
        spans = [v for span in columns for v in (span.start, span.length, *span.own)]
        goldens.say(
            **{f"tiling.{index}.of": [size, tile, halo, multiple], f"tiling.{index}.spans": spans}
        )
    goldens.say(tiling__cases=len(cases))


def _put_exposures(goldens: Goldens) -> None:
    """What the host makes of EXIF time, ISO and f-number (0: not said), or that it refuses them."""
    cases = [
        ((1 / 60, 100, 1.8), (1 / 15, 100, 1.8), (1 / 4, 100, 1.8)),
        ((1 / 15, 100, 1.8), (1 / 15, 400, 1.8), (1 / 15, 1600, 1.8)),
        ((1 / 15, 100, 8), (1 / 15, 100, 4), (1 / 15, 100, 2)),
        ((1 / 60, 100, 0), (1 / 15, 200, 0), (1 / 4, 100, 0)),
        ((1 / 60, 0, 1.8), (1 / 15, 400, 1.8), (1 / 4, 50, 1.8)),
        ((1 / 15, 100, 1.8), (1 / 15, 0, 1.8), (1 / 15, 1600, 1.8)),
        ((1 / 60, 0, 8), (1 / 15, 0, 4), (1 / 4, 0, 2)),
        ((1 / 60, 100, 1.8), (1 / 15, 101, 1.8), (1 / 4, 100, 1.8)),
        ((1 / 60, 100, 1.8), (1 / 15, 103, 1.8), (1 / 4, 100, 1.8)),
        ((1 / 60, 100, 1.8), (1 / 15, 400, 0.1), (1 / 4, 100, 1.8)),
        ((1 / 60, 100, 1.8), (1 / 15, 100, 0), (1 / 4, 200, 1.8)),
        ((0.1, 100, 2), (0.112, 100, 2), (0.4, 100, 2)),
        ((0.1, 100, 2), (0.108, 100, 2), (0.4, 100, 2)),
        ((0.1, 100, 2), (0.1, 100, 2), (0.4, 100, 2)),
    ]
    for index, case in enumerate(cases):
        with TemporaryDirectory() as scratch:
            names = [f"{frame}.jpg" for frame in range(3)]
            for name, settings in zip(names, case, strict=True):
                _photograph(Path(scratch) / name, settings)
            headers = [read_header(Path(scratch) / name) for name in names]
            said = [v or 0 for h in headers for v in (h.exposure_s, h.iso, h.f_number)]
            goldens.say(**{f"exposure.{index}.of": said, f"exposure.{index}.is": _found(scratch)})
    goldens.say(exposure__cases=len(cases))


def _photograph(path: Path, settings: tuple[float, float, float]) -> None:
    exif = Image.Exif()
    tags = (ExifTags.Base.ExposureTime, ExifTags.Base.ISOSpeedRatings, ExifTags.Base.FNumber)
    exif.get_ifd(ExifTags.IFD.Exif).update({t: v for t, v in zip(tags, settings, strict=True) if v})
    Image.new("RGB", (8, 8)).save(path, exif=exif)


def _found(folder: str) -> list[float] | str:
    try:
        return [shot.exposure for shot in read_burst(Path(folder), PHOTOGRAPHS).shots]
    except BracketError:
        return "refused"


def _put_codes(goldens: Goldens) -> None:
    codes = np.arange(256, dtype=np.uint8).astype(np.float32) / 255
    for name, response in FIXED.items():
        goldens.put(f"response_{name}.f32", np.asarray(response(codes), np.float32))
    values = np.linspace(-1.2, 1.2, 997, dtype=np.float32)
    scale, zero = np.float32(0.0078125), -3
    coded = np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)
    goldens.put("quantization_values.f32", values)
    goldens.put("quantization_codes.i8", coded)
    goldens.put("quantization_decoded.f32", (coded.astype(np.float32) - zero) * scale)
    goldens.say(quantization__scale=scale, quantization__zero=zero)
    times = np.random.default_rng(0).random(20) * 50
    goldens.say(latency__values=times, latency__percentiles=np.percentile(times, [50, 90]))


def _put_pictures(goldens: Goldens) -> None:
    generator = np.random.default_rng(1)
    small = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    goldens.say(orientation__size=small.shape[1::-1])
    for orientation in range(1, 9):
        turned = upright(small, orientation)
        goldens.put(f"orientation_{orientation}.u8", turned)
        goldens.say(**{f"orientation.{orientation}": turned.shape[1::-1]})
    # Below and above the size from which the tone is found on fewer pixels.
    for name, (height, width) in {"small": (90, 121), "wide": (601, 1100)}.items():
        scene = _scene(height, width, generator)
        goldens.put(f"tone_{name}.f32", scene)
        goldens.put(f"tone_{name}.u8", image_of(scene.transpose(2, 0, 1), DOMAIN).preview())
        goldens.say(**{f"tone.{name}.size": (width, height)})


def _scene(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Twelve stops of ramps, with edges and noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    stops = -12 * x / width - 2 * np.sin(y / 17) + 3 * ((x // 40 + y // 30) % 2)
    colour = np.stack([1 + x / width, np.ones_like(x), 1 + y / height], -1)
    noise = 1 + 0.05 * generator.standard_normal((height, width, 3), dtype=np.float32)
    return (np.exp2(stops)[..., None] * colour * noise).astype(np.float32)


def _put_outputs(goldens: Goldens, model: str, out: Path, scene: Bracket) -> None:
    manifest = read_manifest(out)
    assert manifest.halo is not None
    for record in manifest.artifacts:
        name = f"{model}_{record.precision}"
        shutil.copy(out / str(record.file), goldens.folder / f"{name}.tflite")
        with closing(open_runner(out / str(record.file), "tflite", threads=2)) as runner:
            hdr = run_tiled(
                runner.run,
                scene.inputs(),
                tile=manifest.size,
                halo=manifest.halo,
                multiple=manifest.multiple,
            )
        goldens.put(f"{name}.f32", hdr[0].transpose(1, 2, 0))
        _say_codings(goldens, name)


def _say_codings(goldens: Goldens, name: str) -> None:
    """Scale and zero of the inputs and outputs that are INT8."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(goldens.folder / f"{name}.tflite")).get_signature_runner()
    for tensor, detail in {**runner.get_input_details(), **runner.get_output_details()}.items():
        if detail["dtype"] == np.int8:
            goldens.say(**{f"{name}.{tensor}": detail["quantization"]})


def _cropped(bracket: Bracket) -> Bracket:
    """A part that two tiles cover, one of them reflected: emulated processors are slow."""
    short, mid, long = (replace(f, pixels=f.pixels[_CROP]) for f in bracket.frames)
    return replace(bracket, frames=(short, mid, long), ground_truth=None)
