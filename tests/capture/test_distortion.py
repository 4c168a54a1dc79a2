# SPDX-License-Identifier: GPL-3.0-or-later
"""The lens model against its equations written out, its inverse, and pictures taken through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.capture.distortion import distorted, sampling_grid, undistorted_points
from backend.capture.loader import undistorted
from backend.capture.model import Camera

LENSES = {
    "barrel": (-0.2, 0.05),
    "pincushion": (0.15, 0.02),
    "tangential": (0.0, 0.0, 0.01, -0.02),
    "rational": (0.3, -0.1, 0.001, 0.002, 0.05, 0.4, -0.05, 0.02),
}
CAMERA = Camera(160, 120, 120.0, 125.0, 78.0, 63.0)


def one_point(x: float, y: float, k: tuple[float, ...]) -> tuple[float, float]:
    """OpenCV's equations, one point at a time."""
    k1, k2, p1, p2, k3, k4, k5, k6 = list(k) + [0.0] * (8 - len(k))
    r2 = x**2 + y**2
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
def test_distortion_is_opencvs(lens):
    points = np.random.default_rng(1).uniform(-0.7, 0.7, (50, 2))
    x, y, monotonic = distorted(points[:, 0], points[:, 1], lens)
    assert monotonic.all()
    np.testing.assert_allclose(np.stack([x, y], -1), [one_point(*point, lens) for point in points], atol=1e-14)


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
def test_points_are_undistorted_exactly(lens):
    camera = replace(CAMERA, distortion=lens)
    pixels = np.random.default_rng(2).uniform((0, 0), (160, 120), (100, 2))
    ideal = undistorted_points(camera, pixels)
    back = np.array([one_point(*point, lens) for point in ideal]) * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    np.testing.assert_allclose(back, pixels, atol=1e-3)


def test_points_beyond_the_fold_are_marked():
    x = np.linspace(0.0, 3.0, 301)
    _, _, monotonic = distorted(x, np.zeros_like(x), (-0.2,))  # x(1 - 0.2x²) turns at x² = 1/0.6
    turn = np.sqrt(1.0 / 0.6)
    assert monotonic[x < turn - 0.02].all() and not monotonic[x > turn + 0.02].any()


def test_the_grid_of_a_pinhole_is_its_own_pixels():
    grid, valid = sampling_grid(CAMERA)
    np.testing.assert_allclose(grid[10, 20], [20.5, 10.5], atol=1e-4)
    assert valid.all()


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
def test_an_undistorted_picture_is_the_pinholes(lens):
    """A smooth scene seen through the lens, undistorted, equals the same scene seen without it."""
    camera = replace(CAMERA, distortion=lens)
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)

    def scene(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        alpha = 0.5 + 0.5 / (1.0 + np.exp(-40.0 * (0.4 - np.hypot(x, y))))
        channels = [0.5 + 0.4 * np.sin(6 * x), 0.5 + 0.4 * np.cos(5 * y), 0.5 + 0.3 * np.sin(4 * x * y), alpha]
        return (np.stack(channels, -1) * 255 + 0.5).astype(np.uint8)

    pixels = np.stack([columns, rows], -1).reshape(-1, 2)
    taken = scene(undistorted_points(camera, pixels)).reshape(camera.height, camera.width, 4)
    wanted = scene((pixels - (camera.cx, camera.cy)) / (camera.fx, camera.fy)).reshape(taken.shape)
    result, valid = undistorted(taken, camera)
    assert valid.mean() > 0.7
    assert valid.all() == (lens in (LENSES["barrel"], LENSES["rational"]))  # these two saw more than the pinhole
    difference = np.abs(result.astype(int) - wanted.astype(int))[valid]
    assert difference.max() <= 4 and difference.mean() < 0.6
    before = np.abs(taken.astype(int) - wanted.astype(int))[valid]
    assert before.mean() > 1.5
