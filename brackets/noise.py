"""Sensor noise of phones: var(x) = S·x + O on x in [0, 1] after black (DNG `NoiseProfile`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pockethdr.errors import BracketError

# ISO → (S, O), fitted on raw mosaics. pixel, galaxy_s6, nexus6, lg_g4: SIDD cameras.
PHONES: dict[str, dict[int, tuple[float, float]]] = {
    "pixel": {
        100: (2.65e-4, 2.62e-6),
        200: (4.17e-4, 3.11e-6),
        800: (1.69e-3, 1.42e-5),
        1600: (3.28e-3, 4.70e-5),
        3200: (7.06e-3, 1.62e-4),
        6400: (1.45e-2, 4.98e-4),
    },
    "galaxy_s6": {
        200: (1.16e-3, 1.58e-6),
        400: (2.02e-3, 2.20e-5),
        800: (4.25e-3, 3.96e-5),
        1600: (8.79e-3, 1.31e-4),
        3200: (1.76e-2, 4.81e-4),
    },
    "nexus6": {
        100: (4.53e-4, 3.22e-6),
        400: (1.59e-3, 1.33e-5),
        800: (3.23e-3, 3.05e-5),
        1600: (6.73e-3, 1.24e-4),
        3200: (1.38e-2, 5.38e-4),
    },
    "lg_g4": {
        100: (3.94e-4, 3.04e-6),
        200: (7.27e-4, 4.03e-6),
        400: (1.44e-3, 9.61e-6),
        800: (2.86e-3, 3.14e-5),
    },
}
_FORMULAS = ("oppo_reno10x",)
# Poisson and Gaussian agree above this many photo-electrons, and the Gaussian is far cheaper.
_POISSON_BELOW = 10.0


def phones() -> list[str]:
    """Names that `noise_of` accepts."""
    return [*PHONES, *_FORMULAS]


def noise_of(phone: str, iso: float) -> tuple[float, float]:
    """(S, O) of a phone, interpolated in log ISO and held at the ends of its table.

    Raises:
        BracketError: no such phone.
    """
    if phone == "oppo_reno10x":
        return _oppo_reno10x(iso)
    if phone not in PHONES:
        raise BracketError(f"no noise profile for {phone!r}", expected=", ".join(phones()))
    table = PHONES[phone]
    at = np.log(np.array(list(table)))
    s, o = np.log(np.array(list(table.values()))).T
    return float(np.exp(np.interp(np.log(iso), at, s))), float(
        np.exp(np.interp(np.log(iso), at, o))
    )


def brooks_noise(rng: np.random.Generator) -> tuple[float, float]:
    """A random camera: S log-uniform, ln O = 2.18 ln S + 1.20 + N(0, 0.26).

    Source: Brooks et al., "Unprocessing Images for Learned Raw Denoising", 2019.
    """
    log_s = rng.uniform(math.log(1e-4), math.log(1.2e-2))
    return math.exp(log_s), math.exp(2.18 * log_s + 1.20 + rng.normal(0.0, 0.26))


def noisy(
    clean: NDArray[np.float32], noise: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """x = S·Poisson(clean / S) + N(0, O). `clean` may exceed 1; the result is not clipped.

    Photon noise is drawn as Poisson below 10 photo-electrons and as Gaussian above.
    """
    s, o = noise
    sigma = np.sqrt(s * clean + o, dtype=np.float32)
    x = clean + sigma * rng.standard_normal(clean.shape, dtype=np.float32)
    few = clean < _POISSON_BELOW * s
    count = int(np.count_nonzero(few))
    if count:
        read = math.sqrt(o) * rng.standard_normal(count, dtype=np.float32)
        x[few] = s * rng.poisson(clean[few] / s) + read
    return x


def _oppo_reno10x(iso: float) -> tuple[float, float]:
    """IMX586, K-sigma calibration of PMRID (ECCV 2020), full scale 959."""
    s = (5.995267e-4 * iso + 8.68861e-3) / 959
    o = (7.11772e-7 * iso**2 + 6.514934e-4 * iso + 0.11492713) / 959**2
    return s, o
