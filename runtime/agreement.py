"""How near what a device computes has to come to what this host does."""

from __future__ import annotations

import math

import numpy as np

from pockethdr.brackets.metrics import psnr_mu
from pockethdr.runtime.runner import Array

#: Stands for the PSNR of identical images, which is infinite and cannot be written as JSON.
IDENTICAL_DB = 200.0
#: Least PSNR-µ in dB of an artifact on a phone, or on emulated ARM code, against the same artifact
#: here; there half-precision arithmetic is allowed.
LEAST_DB = 55.0


def finite_db(value: float) -> float:
    """A PSNR that JSON can hold: identical images are `IDENTICAL_DB`.

    Raises:
        ValueError: it is NaN.
    """
    if math.isnan(value):
        raise ValueError("the PSNR is not a number")
    return min(value, IDENTICAL_DB)


def agreement(there: Array, here: Array) -> float | None:
    """PSNR-µ in dB of a device's output against this host's; None where one is no image: NaN, ∞.

    Raises:
        ValueError: the shapes differ.
    """
    if not (np.isfinite(there).all() and np.isfinite(here).all()):
        return None
    return finite_db(psnr_mu(np.clip(there, 0.0, 1.0), np.clip(here, 0.0, 1.0)))
