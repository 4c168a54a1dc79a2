# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs, masks and cameras for the tests of the collector."""

import math
from pathlib import Path
from typing import Any

import bpy
import mathutils
import numpy as np
from bl_ext.dev.unrender.backend.capture import Capture, read_capture
from bl_ext.dev.unrender.operators import preflight

from tests.operators.sample_result import png

WIDTH, HEIGHT = 48, 32


def photograph(path: Path, value: float = 0.5, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """An opaque picture of a gradient whose blue channel is `value`."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.rint(np.linspace(0, 255, width)).astype(np.uint8)
    pixels[..., 1] = np.rint(np.linspace(0, 255, height)).astype(np.uint8)[:, None]
    pixels[..., 2] = round(255 * value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))
    return path


def mask(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """White in the middle third of the columns."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 3 : 2 * width // 3] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))
    return path


def orbit(angle: float, distance: float = 4.0, height: float = 1.5) -> mathutils.Matrix:
    """The matrix of a camera on a circle that looks at the origin."""
    place = mathutils.Vector((distance * math.cos(angle), distance * math.sin(angle), height))
    return mathutils.Matrix.Translation(place) @ place.to_track_quat("Z", "Y").to_matrix().to_4x4()


def add_camera(name: str, matrix: mathutils.Matrix | None = None, photo: Path | None = None) -> bpy.types.Object:
    """A camera of the open scene, with a photograph behind it."""
    camera: Any = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    camera.data.lens, camera.data.shift_x, camera.data.shift_y = 40.0, 0.02, -0.03
    bpy.context.scene.collection.objects.link(camera)
    if matrix is not None:
        camera.matrix_world = matrix
    if photo is not None:
        background = camera.data.background_images.new()
        background.image = bpy.data.images.load(str(photo))
        camera.data.show_background_images = True
    bpy.context.view_layer.update()
    return camera


def ring(folder: Path, n: int = 4) -> list[bpy.types.Object]:
    """Cameras on a circle with photographs photo_0.png and so on behind them; the render size fits."""
    set_size()
    return [
        add_camera(f"Camera {i}", orbit(2 * math.pi * i / n), photograph(folder / f"photo_{i}.png", i / n))
        for i in range(n)
    ]


def set_size(width: int = WIDTH, height: int = HEIGHT) -> None:
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100


def animate(item: Any, frames: range) -> None:
    """Moves it on the circle, one key a frame."""
    for index, frame in enumerate(frames):
        item.matrix_world = orbit(2 * math.pi * index / len(frames))
        item.rotation_mode = "QUATERNION"
        item.rotation_quaternion = orbit(2 * math.pi * index / len(frames)).to_quaternion()
        item.keyframe_insert("location", frame=frame)
        item.keyframe_insert("rotation_quaternion", frame=frame)


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
