"""The metrics equal scikit-image's, known values by hand, and notice small faults."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pockethdr.brackets import metrics
from pockethdr.errors import BracketError

METRICS = [metrics.psnr_mu, metrics.psnr_l, metrics.ssim_mu, metrics.ssim_l]


@pytest.fixture
def pair() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    gt = np.clip(rng.lognormal(-2, 1, (4, 33, 46)), 0, 1).astype(np.float32)
    return np.clip(gt + rng.normal(0, 0.02, gt.shape), 0, 1).astype(np.float32), gt


def test_mu_law_by_hand() -> None:
    assert metrics.mu_law(np.array([0.0, 1.0])).tolist() == [0.0, 1.0]
    assert metrics.mu_law(np.array(0.01)) == pytest.approx(math.log(51) / math.log(5001))
    assert metrics.mu_law(np.array(0.5), mu=1.0) == pytest.approx(math.log(1.5) / math.log(2))


def test_psnr_by_hand() -> None:
    gt = np.full((1, 8, 8), 0.5)
    assert metrics.psnr_l(gt + 0.1, gt) == pytest.approx(20.0)
    assert metrics.psnr(gt + 0.1, gt, data_range=10.0) == pytest.approx(40.0)
    assert metrics.psnr_l(gt, gt) == math.inf
    step = metrics.mu_law(np.array(0.6)) - metrics.mu_law(np.array(0.5))
    assert metrics.psnr_mu(gt + 0.1, gt) == pytest.approx(-20 * math.log10(step))


def test_ssim_by_hand() -> None:
    """Two constants have no variance: only the luminance term is left."""
    a, b = np.full((1, 9, 9), 0.4), np.full((1, 9, 9), 0.5)
    assert metrics.ssim_l(a, b) == pytest.approx((2 * 0.2 + 1e-4) / (0.16 + 0.25 + 1e-4))
    c1 = (0.01 * 255) ** 2
    expected = (2 * 102 * 127.5 + c1) / (102**2 + 127.5**2 + c1)
    assert metrics.ssim_kalantari(np.full((1, 12, 12), 0.4), np.full((1, 12, 12), 0.5)) == (
        pytest.approx(expected)
    )


def test_equal_to_scikit_image(pair: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    pred, gt = (image.astype(np.float64) for image in pair)
    psnr, ssim = skimage.peak_signal_noise_ratio, skimage.structural_similarity
    toned = [np.log(1 + 5000 * image) / np.log(5001) for image in (gt, pred)]
    assert metrics.psnr_l(pred, gt) == pytest.approx(psnr(gt, pred, data_range=1), abs=1e-6)
    assert metrics.psnr_mu(pred, gt) == pytest.approx(psnr(*toned, data_range=1), abs=1e-6)
    assert metrics.ssim_l(pred, gt) == pytest.approx(
        ssim(gt, pred, data_range=1, channel_axis=0), abs=1e-6
    )
    assert metrics.ssim_mu(pred, gt) == pytest.approx(
        ssim(*toned, data_range=1, channel_axis=0), abs=1e-6
    )
    assert metrics.ssim_l(pred, gt, window=11) == pytest.approx(
        ssim(gt, pred, data_range=1, channel_axis=0, win_size=11), abs=1e-6
    )
    gaussian = ssim(
        255 * gt, 255 * pred, data_range=255, channel_axis=0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert metrics.ssim_kalantari(pred, gt) == pytest.approx(gaussian, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_scale_error_and_swapped_channels_move_every_metric(
    metric: object, pair: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    assert callable(metric)
    gt = np.clip(pair[1], 0, 0.9)
    perfect = metric(gt, gt)
    scaled, swapped = metric(1.02 * gt, gt), metric(gt[::-1], gt)
    assert swapped < scaled < perfect
    assert math.isfinite(scaled)
    if metric in (metrics.psnr_mu, metrics.psnr_l):
        assert scaled < 60
        assert swapped < 25
    else:
        assert scaled < 1 - 1e-6
        assert swapped < 0.5


def test_prediction_is_clamped_as_officially_but_plain_psnr_is_not() -> None:
    gt = np.ones((1, 8, 8))
    assert metrics.psnr_l(gt + 1, gt) == math.inf
    assert metrics.psnr(gt + 1, gt, data_range=1.0) == pytest.approx(0.0)
    assert math.isfinite(metrics.psnr_mu(gt - 2, gt))


def test_nan_is_never_a_pass() -> None:
    gt = np.full((1, 8, 8), 0.5)
    broken = gt.copy()
    broken[0, 0, 0] = np.nan
    assert not metrics.psnr_mu(broken, gt) >= 0


def test_other_shapes_are_refused(
    pair: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    pred, gt = pair
    with pytest.raises(ValueError, match="cannot be compared"):
        metrics.psnr_l(pred[:1], gt)
    with pytest.raises(BracketError, match="5×5 pixels, too few for SSIM\nexpected: at least 7×7"):
        metrics.ssim_l(pred[:, :5, :5], gt[:, :5, :5])
