# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenCV's lens distortion: rational radial with tangential terms, and where it stops making sense."""

from __future__ import annotations

import numpy as np

from .model import Camera


def distorted(
    x: np.ndarray, y: np.ndarray, coefficients: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the lens puts an ideal image point.

    Parameters: x, y are ideal points on the plane z = 1, y down, any shape; ``coefficients`` as Camera.distortion.
    Equations: OpenCV documentation, "Camera Calibration and 3D Reconstruction":
    x' = x·(1 + k1 r² + k2 r⁴ + k3 r⁶)/(1 + k4 r² + k5 r⁴ + k6 r⁶) + 2 p1 x y + p2 (r² + 2x²), y' likewise.

    Returns x', y' and whether each point lies where the radial part still grows with r. Beyond that a polynomial
    folds the picture back over itself, and no true ray belongs there.
    """
    k1, k2, p1, p2, k3, k4, k5, k6 = (*coefficients, *(0.0,) * (8 - len(coefficients)))
    r2 = x * x + y * y
    radial = _radial(r2, k1, k2, k3, k4, k5, k6)
    new_x = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
    new_y = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
    return new_x, new_y, r2 < _turning_point(float(np.max(r2, initial=0.0)), k1, k2, k3, k4, k5, k6)


def _radial(r2: np.ndarray, k1: float, k2: float, k3: float, k4: float, k5: float, k6: float) -> np.ndarray:
    return (1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1.0 + r2 * (k4 + r2 * (k5 + r2 * k6)))


def _turning_point(largest: float, *coefficients: float) -> float:
    """The smallest r² at which r·radial(r²) stops growing, infinity where it does not up to ``largest``."""
    r = np.linspace(0.0, np.sqrt(largest) * 1.001 + 1e-9, 4096)
    falls = np.flatnonzero(np.diff(r * _radial(r * r, *coefficients)) <= 0.0)
    return float(r[falls[0]] ** 2) if falls.size else np.inf


def undistorted_points(camera: Camera, pixels: np.ndarray, steps: int = 20) -> np.ndarray:
    """The ideal points [P, 2] on the plane z = 1, y down, that the lens shows at pixel positions [P, 2].

    Fixed-point iteration on the distortion; it converges for the lenses of photographs.
    """
    shown = (pixels - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    if not camera.distorted:
        return shown
    ideal = shown.copy()
    for _ in range(steps):
        x, y, _ = distorted(ideal[:, 0], ideal[:, 1], camera.distortion)
        ideal += shown - np.stack([x, y], axis=-1)
    return ideal


def sampling_grid(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the undistorted image, a pinhole with the same K, is found in the photograph.

    Returns pixel positions [H, W, 2] float32 (x, y; centers at +0.5), and whether they lie in it, [H, W] bool.
    """
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    grid_x, grid_y = np.meshgrid(x, y)
    new_x, new_y, monotonic = distorted(grid_x, grid_y, camera.distortion)
    pixel_x, pixel_y = new_x * camera.fx + camera.cx, new_y * camera.fy + camera.cy
    inside = (pixel_x >= 0.0) & (pixel_x <= camera.width) & (pixel_y >= 0.0) & (pixel_y <= camera.height)
    return np.stack([pixel_x, pixel_y], axis=-1).astype(np.float32), inside & monotonic
