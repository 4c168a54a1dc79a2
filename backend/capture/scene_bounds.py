# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the object stands, from cameras and masks alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .distortion import undistorted_points
from .model import Camera, View


def nearest_point(origins: np.ndarray, directions: np.ndarray) -> np.ndarray | None:
    """The point with the least sum of squared distances to lines, [3] float64.

    Parameters: ``origins`` [N, 3] and unit ``directions`` [N, 3], float64. None where the lines are parallel, so that
    no point is nearest: the normal equations Σ(I − d dᵀ) x = Σ(I − d dᵀ) o are singular.
    """
    projections = np.eye(3) - directions[:, :, None] * directions[:, None, :]  # [N, 3, 3]
    system = projections.sum(axis=0)
    if np.linalg.eigvalsh(system)[0] < 1e-5 * len(origins):
        return None
    return np.linalg.solve(system, np.einsum("nij,nj->i", projections, origins))


def optical_axes(views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
    """Origins [N, 3] and unit directions [N, 3], world, of the rays through the images' centers."""
    middles = [np.array([[0.5 * view.camera.width, 0.5 * view.camera.height]]) for view in views]
    directions = [pixel_rays(view, middle)[0] for view, middle in zip(views, middles)]
    return np.stack([view.center for view in views]), np.stack(directions)


def pixel_rays(view: View, pixels: np.ndarray) -> np.ndarray:
    """Unit directions [P, 3] float64, world, of the rays through pixel positions [P, 2] of the photograph."""
    points = undistorted_points(view.camera, pixels)  # [P, 2], y down
    local = np.stack([points[:, 0], -points[:, 1], -np.ones(len(points))], axis=-1)
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    return local @ view.cam_to_world[:3, :3].T


def ray_distances(view: View, pixels: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Distances [P] of ``point`` [3], world, to the rays through ``pixels`` [P, 2]."""
    return np.linalg.norm(np.cross(pixel_rays(view, pixels), point - view.center), axis=-1)


def depth(view: View, point: np.ndarray) -> float:
    """How far ``point`` [3] lies in front of the camera along its axis; negative behind."""
    return float((point - view.center) @ view.forward)


def projected(view: View, point: np.ndarray) -> np.ndarray | None:
    """The pixel position [2] of a world point under the camera without its distortion; None behind it."""
    local = view.cam_to_world[:3, :3].T @ (point - view.center)
    if local[2] >= 0.0:
        return None
    camera = view.camera
    return np.array([camera.cx - camera.fx * local[0] / local[2], camera.cy + camera.fy * local[1] / local[2]])


def radius_in_view(view: View, point: np.ndarray) -> float:
    """The largest sphere around ``point`` that the photograph shows whole; 0 where it does not show the point."""
    if depth(view, point) <= 0.0:
        return 0.0
    camera = view.camera
    local = view.cam_to_world[:3, :3].T @ (point - view.center)
    x, y, z = local[0], -local[1], -local[2]
    planes = (
        (x * camera.fx + camera.cx * z, camera.fx, camera.cx),
        (-x * camera.fx + (camera.width - camera.cx) * z, camera.fx, camera.width - camera.cx),
        (y * camera.fy + camera.cy * z, camera.fy, camera.cy),
        (-y * camera.fy + (camera.height - camera.cy) * z, camera.fy, camera.height - camera.cy),
    )
    return max(0.0, min(value / float(np.hypot(focal, offset)) for value, focal, offset in planes))


def sampled_border(camera: Camera, mask: np.ndarray, most: int = 400) -> np.ndarray:
    """Pixel positions [P, 2] of the mask's outermost pixels, at most about ``most``.

    ``mask`` [h, w] bool may be smaller than the photograph. The outermost in each row and column suffice: the object's
    farthest ray is among them.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return np.zeros((0, 2))
    left, right = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    top, bottom = mask[:, columns].argmax(axis=0), mask.shape[0] - 1 - mask[::-1, columns].argmax(axis=0)
    x = np.concatenate([left, right, columns, columns])
    y = np.concatenate([rows, rows, top, bottom])
    pixels = np.stack([x, y], axis=-1)[:: max(1, x.size // most)] + 0.5
    return pixels * np.array([camera.width / mask.shape[1], camera.height / mask.shape[0]])
