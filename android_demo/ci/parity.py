"""The Kotlin core against the Python runtime on a whole bracket.

`python -m android_demo.ci.parity [BRACKET]` fuses a bracket of full size with the INT8 artifact
both ways and compares what comes out: the network's output, the 8-bit base image, and what a
decoder makes of the Ultra HDR file.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import imagecodecs
import numpy as np

from android_demo.ci.android_test import host_litert, java_arguments, test_jar
from android_demo.ci.artifacts import DOMAIN, export_folder
from android_demo.ci.build import host_bridge, run
from android_demo.ci.goldens import Goldens, put_bracket, say_spec
from android_demo.ci.paths import OUT, SHARED
from pockethdr.brackets.bracket import LUMINANCE, srgb_to_linear
from pockethdr.brackets.read import read_bracket
from pockethdr.errors import PocketError
from pockethdr.export.manifest import read_manifest
from pockethdr.runtime.fuse import fuse
from pockethdr.runtime.image import image_of

BRACKET = SHARED / "note9_garden_left"


@dataclass(frozen=True)
class Parity:
    """How far Kotlin is from Python.

    Attributes:
        network: largest difference of the network's linear output.
        base_codes: largest difference of the 8-bit base image, in codes.
        luminance: median relative error of the decoded Ultra HDR file's luminance.
    """

    bracket: str
    size: tuple[int, int]
    tiles: int
    network: float
    base_codes: int
    luminance: float
    milliseconds: dict[str, float]

    def holds(self) -> bool:
        return self.network == 0 and self.base_codes <= 1 and self.luminance < 0.005


def main() -> int:
    try:
        found = compare(Path(sys.argv[1]) if len(sys.argv) > 1 else BRACKET)
    except PocketError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(found), indent=1))
    return 0 if found.holds() else 1


def compare(folder: Path, *, jar: Path | None = None, given: Path | None = None) -> Parity:
    """Fuse the rgb bracket in `folder` by Kotlin and by Python.

    Args:
        jar: the compiled core; made when not given.
        given: another artifact for Kotlin, to see the gate fail.
    """
    bracket, out = read_bracket(folder, domain=DOMAIN), export_folder()
    manifest, work = read_manifest(out), OUT / "parity"
    artifact = out / next(str(a.file) for a in manifest.artifacts if a.precision == "int8")
    goldens = Goldens(work)
    say_spec(goldens, manifest)
    put_bracket(goldens, bracket)
    shutil.copy(given or artifact, work / "artifact.tflite")
    goldens.close()
    arguments = java_arguments(jar or test_jar(), work, bridge=host_bridge(), litert=host_litert())
    run(["java", *arguments, "org.pockethdr.demo.FuseBracketKt", work])
    said = dict(line.split("=") for line in (work / "result.properties").read_text().split())
    height, width = bracket.size()
    hdr = np.asarray(fuse(artifact, bracket).pixels.transpose(1, 2, 0))
    shown = image_of(hdr.transpose(2, 0, 1), DOMAIN).preview()
    ours = np.fromfile(work / "hdr.f32", "<f4").reshape(height, width, 3)
    base = np.fromfile(work / "base.u8", np.uint8).reshape(height, width, 3)
    return Parity(
        bracket.name,
        (height, width),
        int(said["tiles"]),
        float(np.abs(ours - hdr).max()),
        int(np.abs(base.astype(int) - shown).max()),
        luminance_error(work / "ultra.jpg", hdr * float(said["brightness"]), shown),
        {k.removeprefix("ms."): round(float(v)) for k, v in said.items() if k.startswith("ms.")},
    )


def luminance_error(file: Path, hdr: np.ndarray, shown: np.ndarray) -> float:
    """Median relative error of an Ultra HDR file's luminance, 1.0 = SDR white.

    What it is to show is `hdr` linear light, and `shown` (8-bit sRGB) where that is brighter.
    """
    decoded = imagecodecs.ultrahdr_decode(
        file.read_bytes(), dtype="float16", transfer=imagecodecs.ULTRAHDR.CT.LINEAR
    )
    found = decoded[..., :3].astype(np.float32) @ LUMINANCE
    light = srgb_to_linear(shown / np.float32(255)) @ LUMINANCE
    wanted = np.maximum(hdr @ LUMINANCE, light)
    return float(np.median(np.abs(found - wanted) / np.maximum(wanted, 1e-4)))


if __name__ == "__main__":
    raise SystemExit(main())
