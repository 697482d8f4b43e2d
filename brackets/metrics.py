"""How far one HDR image is from another.

Everything takes linear C×H×W arrays in [0, 1] (1.0 = clip level of the shortest frame), prediction
first, and returns one number; thresholds live elsewhere. The plain names are Mobile-HDR's official
raw evaluation (`test.py` of shuaizhengliu/Joint-HDRDN): the prediction is clamped to [0, 1],
nothing is divided by its own maximum, SSIM is scikit-image's default (7×7 uniform window, sample
covariance) averaged over channels. "SSIM" is another function elsewhere: `ssim_kalantari` is the
one of the Kalantari-style repositories, and its figures must not be mixed with the others.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pockethdr.errors import BracketError

Array = NDArray[np.floating]
_Filter = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def psnr_mu(pred: Array, gt: Array, *, data_range: float = 1.0, mu: float = 5000.0) -> float:
    """PSNR in dB after the µ-law: the perceptual figure of the HDR literature."""
    return psnr(mu_law(_clamped(pred), mu=mu), mu_law(gt, mu=mu), data_range=data_range)


def psnr_l(pred: Array, gt: Array, *, data_range: float = 1.0) -> float:
    """PSNR in dB on linear values."""
    return psnr(_clamped(pred), gt, data_range=data_range)


def ssim_mu(
    pred: Array, gt: Array, *, data_range: float = 1.0, mu: float = 5000.0, window: int = 7
) -> float:
    """SSIM after the µ-law, uniform `window`×`window`."""
    toned = mu_law(_clamped(pred), mu=mu), mu_law(gt, mu=mu)
    return _ssim(*toned, data_range=data_range, window=window)


def ssim_l(pred: Array, gt: Array, *, data_range: float = 1.0, window: int = 7) -> float:
    """SSIM on linear values, uniform `window`×`window`."""
    return _ssim(_clamped(pred), gt, data_range=data_range, window=window)


def mu_law(x: Array, *, mu: float = 5000.0) -> NDArray[np.float64]:
    """log(1 + µx) / log(1 + µ): the range compression of Kalantari 2017, [0, 1] → [0, 1]."""
    return np.log1p(mu * np.asarray(x, np.float64)) / np.log1p(mu)


def psnr(a: Array, b: Array, *, data_range: float) -> float:
    """10·log10(data_range² / mean squared error), unclamped; inf for equal arrays.

    Raises:
        ValueError: the shapes differ (broadcasting would give a plausible wrong figure).
    """
    _check_shapes(a, b)
    error = np.mean(np.square(np.asarray(a, np.float64) - b))
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(data_range**2 / error))


def ssim_kalantari(pred: Array, gt: Array) -> float:
    """SSIM as the Kalantari-style repositories (HDR-Transformer) compute it.

    Values clipped to [0, 255] after ×255, 11×11 Gaussian of σ 1.5, population covariance, valid
    region only. Pass µ-law values for SSIM-µ, linear ones for SSIM-l.
    """
    codes = [np.clip(np.asarray(x, np.float64) * 255, 0, 255) for x in (pred, gt)]
    kernel = cv2.getGaussianKernel(11, 1.5)

    def gaussian(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.sepFilter2D(plane, -1, kernel, kernel), np.float64)

    return _mean_ssim(*codes, smooth=gaussian, window=11, data_range=255.0, covariance_scale=1.0)


def _ssim(a: Array, b: Array, *, data_range: float, window: int) -> float:
    def box(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.boxFilter(plane, -1, (window, window)), np.float64)

    samples = window**2
    scale = samples / (samples - 1)
    return _mean_ssim(
        a, b, smooth=box, window=window, data_range=data_range, covariance_scale=scale
    )


def _mean_ssim(
    a: Array,
    b: Array,
    *,
    smooth: _Filter,
    window: int,
    data_range: float,
    covariance_scale: float,
) -> float:
    """Wang et al. 2004, equation 13 with K = (0.01, 0.03), over the windows that lie inside.

    Raises:
        BracketError: none does.
    """
    _check_shapes(a, b)
    height, width = a.shape[-2:]
    if min(height, width) < window:
        raise BracketError(
            f"{height}×{width} pixels, too few for SSIM",
            expected=f"at least {window}×{window}, and twice that of a mosaic",
            fix="leave the bracket out, or its ground truth",
        )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    edge = window // 2
    means = []
    for x, y in zip(np.asarray(a, np.float64), np.asarray(b, np.float64), strict=True):
        mean_x, mean_y = smooth(x), smooth(y)
        variance_x = covariance_scale * (smooth(x * x) - mean_x**2)
        variance_y = covariance_scale * (smooth(y * y) - mean_y**2)
        covariance = covariance_scale * (smooth(x * y) - mean_x * mean_y)
        similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
        means.append(similarity[edge:-edge, edge:-edge].mean())
    return float(np.mean(means))


def _clamped(pred: Array) -> Array:
    return np.clip(pred, 0.0, 1.0)


def _check_shapes(a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f"images of shapes {a.shape} and {b.shape} cannot be compared")
