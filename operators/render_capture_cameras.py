# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the cameras of a rendered capture stand (no bpy). Directions are unit vectors from the object, z up."""

import math

import numpy as np

LENS = 50.0  # mm, on a sensor of SENSOR mm along the picture's longer side
SENSOR = 36.0
MARGIN = 1.08  # of the object's radius left free around it
GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


def turntable(count: int, elevation: float) -> np.ndarray:
    """[N, 3] one ring, evenly spaced, `elevation` radians above the horizon."""
    angles = 2.0 * math.pi * np.arange(count) / count
    return _directions(angles, np.full(count, math.sin(elevation)))


def dome(count: int, lowest: float, highest: float) -> np.ndarray:
    """[N, 3] a spiral from `highest` to `lowest` radians above the horizon in which each camera has the same area."""
    heights = np.linspace(math.sin(highest), math.sin(lowest), 2 * count + 1)[1::2]
    return _directions(GOLDEN_ANGLE * np.arange(count), heights)


def _directions(angles: np.ndarray, heights: np.ndarray) -> np.ndarray:
    flat = np.sqrt(np.maximum(0.0, 1.0 - heights**2))
    return np.stack([flat * np.cos(angles), flat * np.sin(angles), heights], axis=-1)


def distance(radius: float) -> float:
    """From how far a square picture shows a sphere of this radius whole, with a margin."""
    return radius * MARGIN / math.sin(math.atan(0.5 * SENSOR / LENS))


def pose_towards(center: np.ndarray, direction: np.ndarray, far: float) -> np.ndarray:
    """[4, 4] `cam_to_world`, OpenGL axes, of a camera `far` along `direction` that looks back at `center`."""
    up = np.array([0.0, 1.0, 0.0]) if abs(direction[2]) > 0.9999 else np.array([0.0, 0.0, 1.0])
    right = np.cross(up, direction)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(direction, right), direction, center + far * direction], axis=-1)
    return pose
