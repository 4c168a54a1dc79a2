# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's lens models of motion tracking, and the same lens as OpenCV's coefficients (no bpy).

Blender's points have y up, OpenCV's y down; both are on the plane z = 1. What each model does was measured with the
compositor's Movie Distortion node, which tests/operators/test_collect_lens.py repeats.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..backend.capture.distortion import distorted
from ..backend.capture.model import Camera

if TYPE_CHECKING:
    import bpy

Model = Literal["POLYNOMIAL", "DIVISION", "NUKE", "BROWN"]
TOLERANCE = 0.1  # pixels by which OpenCV's coefficients may miss the lens
GRID = 41  # samples along each side of the image for the fit
ROUNDS = 6  # of the fit, which is linear but for the denominator


@dataclass(frozen=True)
class TrackingLens:
    """A clip's distortion. `unit`: what the model measures lengths in, in units of the focal length (NUKE alone)."""

    model: Model
    k: tuple[float, ...]
    p: tuple[float, ...] = ()
    unit: float = 1.0

    @property
    def straight(self) -> bool:
        """Whether it distorts nothing."""
        return not any((*self.k, *self.p))

    def shown(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the lens shows ideal points; any shape, y up."""
        k = (*self.k, 0.0, 0.0, 0.0, 0.0)[:4]
        p1, p2 = (*self.p, 0.0, 0.0)[:2]
        r2 = x * x + y * y
        if self.model in ("POLYNOMIAL", "BROWN"):
            radial = 1.0 + r2 * (k[0] + r2 * (k[1] + r2 * (k[2] + r2 * k[3])))
            tangential_x = p1 * (r2 + 2.0 * x * x) + 2.0 * p2 * x * y
            tangential_y = p2 * (r2 + 2.0 * y * y) + 2.0 * p1 * x * y
            return x * radial + tangential_x, y * radial + tangential_y
        if self.model == "DIVISION":
            divisor = 1.0 + r2 * (k[0] + r2 * k[1])
            return x / divisor, y / divisor
        # NUKE says where a shown point belongs: seek the one that belongs at x, y.
        ideal_x, ideal_y = x / self.unit, y / self.unit
        new_x, new_y = ideal_x.copy(), ideal_y.copy()
        for _ in range(100):
            s2 = new_x * new_x + new_y * new_y
            radial = 1.0 + s2 * (k[0] + s2 * k[1])
            new_x, new_y = ideal_x * (radial + p1 * new_y * new_y), ideal_y * (radial + p2 * new_x * new_x)
        return new_x * self.unit, new_y * self.unit


def read_tracking(clip: "bpy.types.MovieClip", width: int, height: int) -> tuple[Camera, TrackingLens]:
    """The pinhole of a clip's solve, without distortion, and its lens, for frames of this size."""
    camera: Any = clip.tracking.camera
    fx = float(camera.focal_length_pixels) * width / (clip.size[0] or width)
    center = camera.principal_point_pixels
    scale_x, scale_y = width / (clip.size[0] or width), height / (clip.size[1] or height)
    pinhole = Camera(width, height, fx, fx * camera.pixel_aspect, center[0] * scale_x, height - center[1] * scale_y, ())
    model = camera.distortion_model
    prefix = {"POLYNOMIAL": "", "DIVISION": "division_", "NUKE": "nuke_", "BROWN": "brown_"}[model]

    def values(letter: str) -> tuple[float, ...]:
        names = [f"{prefix}{letter}{number}" for number in range(1, 5)]
        return tuple(float(getattr(camera, name)) for name in names if hasattr(camera, name))

    unit = 0.5 * max(width, height * camera.pixel_aspect) / fx if model == "NUKE" else 1.0
    return pinhole, TrackingLens(model, values("k"), values("p"), unit)


def as_opencv(lens: TrackingLens, pinhole: Camera) -> tuple[tuple[float, ...], float]:
    """OpenCV's coefficients for the lens, and by how many pixels at most they miss it within the image.

    Polynomial and Brown up to r⁶ are OpenCV's own; the others are fitted with the rational form.
    """
    if lens.straight:
        return (), 0.0
    k = (*lens.k, 0.0, 0.0, 0.0, 0.0)[:4]
    p1, p2 = (*lens.p, 0.0, 0.0)[:2]
    if lens.model in ("POLYNOMIAL", "BROWN") and k[3] == 0.0:
        return (k[0], k[1], -p2, p1, k[2]), 0.0  # turning y over swaps the tangential terms and one sign
    x, y, seen_x, seen_y = _samples(lens, pinhole)
    coefficients = _fitted(x, y, seen_x, seen_y)
    with np.errstate(all="ignore"):  # a poor fit may divide by zero
        fit_x, fit_y, monotonic = distorted(x, y, coefficients)
    error = np.hypot((fit_x - seen_x) * pinhole.fx, (fit_y - seen_y) * pinhole.fy)
    return coefficients, float(error.max(initial=0.0)) if monotonic.all() else np.inf


def _samples(lens: TrackingLens, pinhole: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ideal points and where the lens shows them, y down, over what the image shows."""
    reach = np.linspace(-0.2, 1.2, GRID)
    x, y = np.meshgrid(
        (reach * pinhole.width - pinhole.cx) / pinhole.fx, (reach * pinhole.height - pinhole.cy) / pinhole.fy
    )
    with np.errstate(all="ignore"):
        seen_x, seen_y = lens.shown(x, -y)
    seen_y = -seen_y
    pixel_x, pixel_y = seen_x * pinhole.fx + pinhole.cx, seen_y * pinhole.fy + pinhole.cy
    inside = (pixel_x >= 0) & (pixel_x <= pinhole.width) & (pixel_y >= 0) & (pixel_y <= pinhole.height)
    return x[inside], y[inside], seen_x[inside], seen_y[inside]


def _fitted(x: np.ndarray, y: np.ndarray, seen_x: np.ndarray, seen_y: np.ndarray) -> tuple[float, ...]:
    """Least squares over the coefficients of OpenCV's x' = x·N/D + t.

    Each round solves (x' − t)·D = x·N + (t's own change), divided by the D of the round before.
    """
    r2 = x * x + y * y
    scale = float(r2.max(initial=1e-12))
    powers = [(r2 / scale) ** n for n in (1, 2, 3)]
    denominator = np.ones_like(r2)
    shift_x, shift_y = np.zeros_like(x), np.zeros_like(y)
    for _ in range(ROUNDS):
        rows = []
        for ideal, seen, shift, tangential in (
            (x, seen_x, shift_x, (2.0 * x * y, r2 + 2.0 * x * x)),
            (y, seen_y, shift_y, (r2 + 2.0 * y * y, 2.0 * x * y)),
        ):
            columns = [ideal * power for power in powers] + [-(seen - shift) * power for power in powers]
            rows.append(np.stack([*columns, *tangential], axis=-1) / denominator[:, None])
        target = np.concatenate([(seen_x - x) / denominator, (seen_y - y) / denominator])
        solution = np.linalg.lstsq(np.concatenate(rows), target, rcond=1e-9)[0]
        n, d, (p1, p2) = solution[:3], solution[3:6], solution[6:]
        denominator = 1.0 + sum(value * power for value, power in zip(d, powers, strict=True))
        shift_x = 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
        shift_y = p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
    units = [scale**power for power in (1, 2, 3)]
    k1, k2, k3 = (float(value / unit) for value, unit in zip(n, units, strict=True))
    k4, k5, k6 = (float(value / unit) for value, unit in zip(d, units, strict=True))
    return (k1, k2, float(p1), float(p2), k3, k4, k5, k6)
