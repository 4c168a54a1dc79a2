# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the collector share: running it, and what Blender and a capture make of points."""

from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bl_ext.dev.unrender.backend.capture import Capture, read_capture
from bl_ext.dev.unrender.operators import preflight

from tests.operators.scene_parts import (
    HEIGHT,
    WIDTH,
    add_camera,
    animate,
    mask,
    orbit,
    photograph,
    ring,
    set_size,
)

__all__ = [
    "HEIGHT",
    "POINTS",
    "WIDTH",
    "add_camera",
    "animate",
    "blender_pixels",
    "capture_pixels",
    "check",
    "collect",
    "levels",
    "mask",
    "only_capture",
    "orbit",
    "photograph",
    "ring",
    "set_size",
]


def blender_pixels(camera: Any, matrix: Any, points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Where Blender shows world points [P, 3]: pixels [P, 2] from the top-left corner, by `calc_matrix_camera`."""
    projection = np.array(camera.calc_matrix_camera(bpy.context.evaluated_depsgraph_get(), x=width, y=height))
    local = np.linalg.inv(np.array(matrix, np.float64)) @ np.concatenate([points, np.ones((len(points), 1))], 1).T
    clip = (projection @ local).T
    ndc = clip[:, :2] / clip[:, 3:]
    return np.stack([(ndc[:, 0] + 1) / 2 * width, (1 - ndc[:, 1]) / 2 * height], axis=1)


def capture_pixels(view: Any, points: np.ndarray) -> np.ndarray:
    """Where a capture's view, without its distortion, shows world points [P, 3]."""
    local = (points - view.center) @ view.cam_to_world[:3, :3]
    x, y = local[:, 0] / -local[:, 2], local[:, 1] / local[:, 2]
    return np.stack([view.camera.fx * x + view.camera.cx, view.camera.fy * y + view.camera.cy], axis=1)


POINTS = np.array([[0, 0, 0], [0.5, 0.2, 0.3], [-0.4, 0.6, -0.2], [0.3, -0.5, 0.7]], np.float64)


def levels(report: Any, level: str) -> str:
    """All lines of one level of a preflight report, as one text."""
    return "\n".join(line.text for line in report.lines if line.level == level)


def collect(folder: Path, **settings: Any) -> Capture:
    """Runs the operator; returns the capture that the scene then points at."""
    ours = bpy.context.scene.unrender
    ours.collect.folder = str(folder)
    for key, value in settings.items():
        setattr(ours.collect, key, value)
    assert bpy.ops.unrender.collect() == {"FINISHED"}
    assert Path(ours.capture) == folder
    return read_capture(folder)


def check(**settings: Any) -> preflight.Report:
    for key, value in settings.items():
        setattr(bpy.context.scene.unrender.collect, key, value)
    bpy.ops.unrender.check_capture()
    report = preflight.report_of(bpy.context.scene)
    assert report is not None
    return report


def only_capture(folder: Path) -> bool:
    return [path.name for path in folder.iterdir()] == ["capture.json"]
