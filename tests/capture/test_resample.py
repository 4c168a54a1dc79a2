# SPDX-License-Identifier: GPL-3.0-or-later
"""The box filter against exact areas."""

from __future__ import annotations

import numpy as np
import pytest

from backend.capture.resample import box_filtered, shrunk


def area_means(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The same by the integral of the piecewise constant image."""
    for axis, size in ((0, height), (1, width)):
        total = np.concatenate([np.zeros_like(image.take([0], axis)), image.cumsum(axis, dtype=np.float64)], axis)
        old = image.shape[axis]
        edges = np.linspace(0.0, old, size + 1)
        whole = np.minimum(edges.astype(int), old - 1)
        part = (edges - whole).reshape([-1 if a == axis else 1 for a in range(image.ndim)])
        at_edges = total.take(whole, axis) * (1.0 - part) + total.take(whole + 1, axis) * part
        image = np.diff(at_edges, axis=axis) * (size / old)
    return image


@pytest.mark.parametrize("size", [(40, 30), (20, 15), (10, 10), (39, 29), (17, 7), (13, 30), (1, 1)])
def test_box_filter_is_exact(size):
    image = np.random.default_rng(3).random((30, 40, 3)).astype(np.float32)
    result = box_filtered(np.ascontiguousarray(image.transpose(2, 0, 1)), *size)
    np.testing.assert_allclose(result.transpose(1, 2, 0), area_means(image, *size), atol=1e-6)


@pytest.mark.parametrize("size", [(20, 15), (17, 7)])
def test_shrinking_weighs_colors_with_alpha(size):
    rng = np.random.default_rng(4)
    rgba = rng.integers(0, 256, (30, 40, 4), np.uint8)
    rgba[..., 3] *= rng.random((30, 40)) > 0.3
    small, valid = shrunk(rgba, *size)
    assert valid is None
    alpha = area_means(rgba[..., 3:].astype(float), *size)
    color = area_means(rgba[..., :3] * (rgba[..., 3:] / 255.0), *size) * 255.0 / np.maximum(alpha, 1e-9)
    seen = alpha[..., 0] > 1.0
    np.testing.assert_allclose(small[..., 3], alpha[..., 0], atol=0.51)
    np.testing.assert_allclose(small[seen][:, :3], color[seen], atol=0.51)


def test_a_pixel_is_valid_where_all_it_covers_is():
    valid = np.ones((30, 40), bool)
    valid[7, 9] = False
    _, small = shrunk(np.full((30, 40, 4), 255, np.uint8), 20, 15, valid)
    assert np.argwhere(~small).tolist() == [[3, 4]]


def test_nothing_to_shrink_changes_nothing():
    rgba = np.zeros((3, 4, 4), np.uint8)
    assert shrunk(rgba, 4, 3)[0] is rgba
