"""Phone brackets from an HDR image: shake, moving objects, blur, noise, quantisation, clipping.

    λ_i  = radiance seen by frame i · ratio_i         1.0 = full scale of the short frame
    x_i  = S·Poisson(λ_i / S) + N(0, O)
    DN_i = clip(round(x_i · (white − black) + black), black, white)

The mid frame is the reference: it stands still, and the ground truth is what a noiseless short
exposure from its position would read. rgb brackets add a demosaic, white balance, a colour
matrix, a response curve and 8-bit coding.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pockethdr.brackets.bracket import (
    RAW,
    SRGB_TO_XYZ,
    Bracket,
    Camera,
    Frame,
    flips_of,
    mosaic_of,
    pack,
)
from pockethdr.brackets.exr import read_exr
from pockethdr.brackets.isp import balanced, processed
from pockethdr.brackets.motion import Motion, views
from pockethdr.brackets.noise import noise_of, noisy
from pockethdr.brackets.save import write_bracket
from pockethdr.brackets.simulation import SimulationSettings
from pockethdr.errors import BracketError, PocketError

__all__ = ["SimulationSettings", "simulate", "write_bracket"]

# Four measured cameras, from google-research/unprocessing (Apache-2.0).
_XYZ_TO_CAMERA = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.613, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.838, -0.263, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.097, 0.1581, 0.5181]],
    ]
)


# Of what is left within the margin: a quad of a mosaic each way, and one to interpolate from.
_LEAST_SIDE = 4


def simulate(
    hdr: NDArray[np.floating], settings: SimulationSettings, *, seed: int, name: str = "simulated"
) -> Bracket:
    """Photograph `hdr`, an H×W×3 linear sRGB image in any unit, as a bracket of three.

    The result is (H − 2·margin)×(W − 2·margin), cut to even sizes. The same seed and settings
    give the same bracket.

    Raises:
        BracketError: unknown phone or pattern, a pixel that is no light, or too few of them.
    """
    if not np.isfinite(hdr).all():
        raise BracketError(
            f"{name}: the HDR image holds NaN or infinity",
            expected="finite light",
            fix="replace such pixels, of a sun perhaps by its brightest finite neighbour",
        )
    least = 2 * settings.margin + _LEAST_SIDE
    if min(hdr.shape[:2]) < least:
        raise BracketError(
            f"{name}: an HDR image of {hdr.shape[0]}×{hdr.shape[1]} pixels",
            expected=f"{least}×{least} at least",
        )
    rng = np.random.default_rng(seed)
    camera = _camera(settings, rng)
    ratios = settings.ratios
    scene = _exposed_for_mid(_to_camera(hdr, camera), settings.brightness / ratios[1])
    truth, *seen = (_cut(v, settings.margin) for v in views(scene, _motion(settings), ratios, rng))
    gain = shading_gain(truth.shape[:2], settings.shading, settings.shading_view)
    shots = [
        _shot(view * np.float32(ratio), gain, settings, camera, rng)
        for view, ratio in zip(seen, ratios, strict=True)
    ]
    times = [settings.short_s * ratio for ratio in ratios]
    first, second, third = (
        Frame(None, shot, time) for shot, time in zip(shots, times, strict=True)
    )
    return Bracket(
        name=name,
        domain=settings.domain,
        frames=(first, second, third),
        ratios=ratios,
        camera=camera if settings.domain == RAW else None,
        ground_truth=_ground_truth(np.clip(truth, 0.0, 1.0), settings, camera),
        flips=flips_of(camera.cfa) if settings.domain == RAW else (False, False),
        selection="simulated",
        exposure_source="simulated",
    )


def _camera(settings: SimulationSettings, rng: np.random.Generator) -> Camera:
    weights = rng.dirichlet(np.ones(4))
    to_camera = np.tensordot(weights, _XYZ_TO_CAMERA, 1) @ SRGB_TO_XYZ
    to_camera /= to_camera.sum(axis=1, keepdims=True)
    return Camera(
        cfa=settings.cfa,
        bit_depth=settings.bit_depth,
        black_level=settings.black_level,
        white_level=2**settings.bit_depth - 1,
        wb_gains=(rng.uniform(1.9, 2.4), 1.0, rng.uniform(1.5, 1.9)),
        ccm=np.linalg.inv(to_camera).astype(np.float32),
        noise=settings.noise or noise_of(settings.phone, settings.iso),
    )


def _to_camera(hdr: NDArray[np.floating], camera: Camera) -> NDArray[np.float32]:
    matrix = np.linalg.inv(camera.ccm) / np.array(camera.wb_gains)[:, None]
    return np.maximum(hdr.astype(np.float32) @ matrix.T.astype(np.float32), 0.0)


def _exposed_for_mid(scene: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """Scale so that green's geometric mean is `level` in the short frame."""
    green = scene[..., 1]
    floor = 1e-4 * max(float(green.mean()), 1e-12)
    return scene * np.float32(level / math.exp(float(np.log(green + floor).mean())))


def _motion(settings: SimulationSettings) -> Motion:
    return Motion(
        settings.shake_px,
        settings.shake_deg,
        settings.blur_px,
        settings.object_px,
        settings.object_size,
        settings.objects,
    )


def shading_gain(
    size: tuple[int, ...], shading: float, view: tuple[float, float, float, float]
) -> NDArray[np.float32] | None:
    """The correction of the lens, H×W: 1 in the sensor's middle, 1 + shading in its corners.

    It multiplies the noise too: var(x) = gain·S·x + gain²·O. None where the lens is even.
    """
    if shading <= 0:
        return None
    top, left, height, width = view
    rows = (top + height * (np.arange(size[0]) + 0.5) / size[0] - 0.5) ** 2
    columns = (left + width * (np.arange(size[1]) + 0.5) / size[1] - 0.5) ** 2
    return (1 + 2 * shading * (rows[:, None] + columns)).astype(np.float32)


def _cut(image: NDArray[np.float32], margin: int) -> NDArray[np.float32]:
    height, width = (size - 2 * margin - size % 2 for size in image.shape[:2])
    return image[margin : margin + height, margin : margin + width]


def _shot(
    exposure: NDArray[np.float32],
    gain: NDArray[np.float32] | None,
    settings: SimulationSettings,
    camera: Camera,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """One frame's pixels, as `Frame` holds them, from camera RGB in units of full scale."""
    light = np.asarray(mosaic_of(exposure), np.float32)
    mosaic = noisy(light if gain is None else light / gain, camera.noise or (0.0, 0.0), rng)
    steps = np.float32(camera.white_level - camera.black_level)
    raw = np.rint(np.clip(mosaic, 0.0, 1.0) * steps) / steps
    raw = raw if gain is None else np.minimum(raw * gain, 1.0)
    if settings.domain == RAW:
        return raw
    gains = np.exp(rng.normal(0.0, settings.drift, 3)).astype(np.float32)
    return processed(raw, settings, camera, gains)


def _ground_truth(
    truth: NDArray[np.float32], settings: SimulationSettings, camera: Camera
) -> NDArray[np.float32]:
    if settings.domain == RAW:
        return pack(mosaic_of(truth))
    return np.ascontiguousarray(balanced(truth, camera, settings.saturation).transpose(2, 0, 1))


# The bundled sample: a hotel room with lamps and a bright window, by night in the corners.
_SAMPLE = SimulationSettings(
    phone="pixel",
    iso=800,
    shake_px=2.5,
    shake_deg=0.05,
    blur_px=3.0,
    object_px=6.0,
    object_size=0.06,
    margin=16,
)
_SAMPLE_SEED = 5
_SAMPLE_PIECE = (slice(0, 512), slice(130, 802))
_SAMPLE_FACTS = {
    "made_by": "python -m pockethdr.brackets.simulate interior.exr --sample brackets/sample",
    "source_image": "interior.exr, Greg Zaal, HDRI Haven (Poly Haven); in Debian's blender-data "
    "under datafiles/studiolights/world",
    "licence": "CC0, as its source",
    "seed": _SAMPLE_SEED,
    "notes": "16-bit PNG with 10 valid bits, black level not subtracted; values below black are "
    "clipped to it. The networks shipped here were trained on other photographs of this panorama.",
}


_SAMPLE_LICENCE = """\
This bracket is simulated from interior.exr by Greg Zaal (HDRI Haven, https://polyhaven.com), which
its author released as CC0 1.0: https://creativecommons.org/publicdomain/zero/1.0/
The bracket is released under the same terms.
"""


def _main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundled sample bracket.")
    parser.add_argument("hdr", type=Path, help="interior.exr")
    parser.add_argument("--sample", type=Path, required=True, help="the folder to write")
    given = parser.parse_args()
    try:
        room = np.maximum(read_exr(given.hdr)[_SAMPLE_PIECE], 0.0)
        bracket = simulate(room, _SAMPLE, seed=_SAMPLE_SEED, name="sample")
        write_bracket(bracket, given.sample, facts=_SAMPLE_FACTS)
        (given.sample / "LICENSE.txt").write_text(_SAMPLE_LICENCE)
    except PocketError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _main()
