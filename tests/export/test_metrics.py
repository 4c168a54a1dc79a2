# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from backend.export import metrics

from .shapes import cube


def test_psnr():
    a = np.zeros((4, 4, 3))
    assert metrics.psnr(a + 0.1, a) == pytest.approx(20)
    assert metrics.psnr(a, a) == 100


def slow_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, window by window."""
    axis = np.arange(11) - 5
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return float(np.mean(values))


def test_ssim_is_its_definition():
    random = np.random.default_rng(0)
    x = random.random((16, 19, 3))
    y = np.clip(x + 0.1 * random.normal(size=x.shape), 0, 1)
    expected = np.mean([slow_ssim(x[..., c], y[..., c]) for c in range(3)])
    assert metrics.ssim(x, y) == pytest.approx(expected, abs=1e-12)
    assert metrics.ssim(x, x) == pytest.approx(1)
    assert metrics.ssim(x.astype(np.float32), y.astype(np.float32)) == pytest.approx(expected, abs=1e-5)


def test_lpips_says_why_it_is_missing():
    distance, why = metrics.load_lpips("cpu")
    if distance is None:
        assert "not installed" in why or "weights" in why
    else:
        assert distance(np.zeros((64, 64, 3)), np.zeros((64, 64, 3))) == pytest.approx(0, abs=1e-6)


def test_silhouette_iou():
    a, b = np.zeros((4, 4, 1)), np.zeros((4, 4, 1))
    a[:2], b[1:3] = 1, 0.6
    assert metrics.silhouette_iou(a, b) == pytest.approx(1 / 3)
    assert metrics.silhouette_iou(a * 0, b * 0) == 0


def test_samples_lie_evenly_on_the_surface():
    asset = cube(center=(0, 0, 0))
    points = metrics.sample_surface(asset.vertices, asset.triangles, 6000)
    assert np.abs(np.abs(points).max(axis=-1) - 1).max() < 1e-6
    on_face = np.abs(points[:, 0] - 1) < 1e-6
    assert on_face.sum() == pytest.approx(1000, abs=150)
    assert points[on_face][:, 1:].std(axis=0) == pytest.approx(1 / np.sqrt(3), rel=0.1)


def test_chamfer_of_a_scaled_cube():
    small, large = cube(center=(0, 0, 0)), cube(center=(0, 0, 0))
    grown = np.asarray(large.vertices) * 1.1
    same = metrics.chamfer(small.vertices, small.triangles, small.vertices, small.triangles, 20_000)
    assert same["chamfer_pct_diag"] < 1e-9  # the same seed draws the same points
    found = metrics.chamfer(grown, large.triangles, small.vertices, small.triangles, 20_000)
    percent = 0.1 / np.sqrt(12) * 100
    assert percent < found["completeness_pct"] < 1.15 * percent
    assert found["chamfer_pct_diag"] == pytest.approx((found["accuracy_pct"] + found["completeness_pct"]) / 2)


def test_normal_error():
    a = np.array([[0, 0, 2.0], [1, 0, 0]])
    b = np.array([[0, 0, 1.0], [0, 3, 0]])
    assert metrics.normal_error(a, b) == pytest.approx(45)


def test_base_color_is_known_up_to_a_factor():
    random = np.random.default_rng(0)
    truth = random.random((500, 3))
    scaled = truth * [0.5, 0.8, 0.25]
    assert metrics.best_scale(scaled, truth) == pytest.approx([2, 1.25, 4])
    ones = np.ones(500)
    found = metrics.material_errors(scaled, truth, 0.4 * ones, 0.5 * ones, 0.9 * ones, ones)
    assert found["base_color_psnr"] < 20 and found["base_color_psnr_aligned"] > 90
    assert found["roughness_rmse"] == pytest.approx(0.1) and found["metallic_rmse"] == pytest.approx(0.1)
    assert found["metallic_iou"] == 1
    assert "metallic_iou" not in metrics.material_errors(scaled, truth, ones, ones, 0 * ones, 0 * ones)


def test_environment_error_knows_no_scale_and_no_size():
    random = np.random.default_rng(0)
    coarse = random.random((16, 32, 3)) ** 4
    fine = coarse.repeat(8, axis=0).repeat(8, axis=1)
    assert metrics.environment_error(fine * [0.5, 3, 1], coarse) < 0.01  # sizes differ, the picture does not
    assert metrics.environment_error(fine, fine) == pytest.approx(0, abs=1e-12)
    assert metrics.environment_error(np.zeros((8, 16, 3)), fine) == pytest.approx(1)
    assert metrics.environment_error(fine, fine * 0) == 0
    # Sizes that do not divide: an even light stays even.
    assert metrics.environment_error(np.full((21, 45, 3), 0.7), np.ones((37, 50, 3))) == pytest.approx(0, abs=1e-12)


def test_environment_error_of_a_light_half_missing():
    y = np.ones((64, 128, 3))
    y[:32] = 3  # the upper half of the sphere
    even = np.ones((32, 64, 3))
    # The factor 1 to 3 that fits best leaves one half off by 2 where the mean is 2.
    assert metrics.environment_error(even, y) == pytest.approx(0.5)
    # A texel at the pole covers less of the sphere than one at the horizon.
    pole, horizon = y * 0 + 1, y * 0 + 1
    pole[:8], horizon[28:36] = 2, 2
    assert metrics.environment_error(even, pole) < metrics.environment_error(even, horizon) / 3
