# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera conversion against the projection that Blender itself computes."""

import itertools

import bpy
import mathutils
import numpy as np
import pytest
from bl_ext.dev.unrender.backend.errors import UserError
from bl_ext.dev.unrender.operators import capture_camera
from bl_ext.dev.unrender.operators.capture_camera import Frame, Intrinsics

FITS = ("AUTO", "HORIZONTAL", "VERTICAL")
SIZES = ((640, 480), (480, 640), (512, 512))
SHIFTS = ((0.0, 0.0), (0.13, -0.21), (-0.3, 0.4))
ASPECTS = ((1.0, 1.0), (2.0, 1.0), (1.0, 1.5), (1.2, 1.7))


def blender_projection(camera: bpy.types.Object, frame: Frame, points: np.ndarray) -> np.ndarray:
    """Pixels [P, 2], y down, of points [P, 3] in camera space, by `calc_matrix_camera`."""
    matrix = camera.calc_matrix_camera(
        bpy.context.evaluated_depsgraph_get(),
        x=frame.width,
        y=frame.height,
        scale_x=frame.aspect_x,
        scale_y=frame.aspect_y,
    )
    clip = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ np.array(matrix).T
    ndc = clip[:, :2] / clip[:, 3:]
    return np.stack([(ndc[:, 0] + 1) / 2 * frame.width, (1 - ndc[:, 1]) / 2 * frame.height], axis=1)


def pinhole_projection(pinhole: Intrinsics, points: np.ndarray) -> np.ndarray:
    x, y = points[:, 0] / -points[:, 2], points[:, 1] / points[:, 2]
    return np.stack([pinhole.fx * x + pinhole.cx, pinhole.fy * y + pinhole.cy], axis=1)


POINTS = np.array([[0, 0, -1], [0.3, 0.2, -1], [-0.4, 0.1, -2], [0.2, -0.35, -1.5]], np.float64)


def new_camera() -> bpy.types.Object:
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    bpy.context.scene.collection.objects.link(camera)
    return camera


@pytest.mark.parametrize("fit", FITS)
def test_blender_camera_to_pinhole(fit: str) -> None:
    camera = new_camera()
    data = camera.data
    for (width, height), shift, aspect in itertools.product(SIZES, SHIFTS, ASPECTS):
        data.sensor_fit, data.lens = fit, 43.0
        data.sensor_width, data.sensor_height = 36.0, 20.0
        data.shift_x, data.shift_y = shift
        frame = Frame(width, height, *aspect)
        pinhole = capture_camera.intrinsics_from_lens(capture_camera.read_lens(data), frame)
        error = np.abs(pinhole_projection(pinhole, POINTS) - blender_projection(camera, frame, POINTS)).max()
        assert error < 1e-3, f"{fit} {frame} shift {shift}: {error} px"


@pytest.mark.parametrize("width,height", SIZES)
@pytest.mark.parametrize("ratio", [1.0, 0.8, 1.3])
def test_pinhole_to_blender_camera(width: int, height: int, ratio: float) -> None:
    pinhole = Intrinsics(width, height, 700.0, 700.0 * ratio, width / 2 + 31.5, height / 2 - 17.25)
    lens, frame = capture_camera.lens_from_intrinsics(pinhole)
    assert min(frame.aspect_x, frame.aspect_y) == 1
    camera = new_camera()
    capture_camera.write_lens(camera.data, lens)
    error = np.abs(pinhole_projection(pinhole, POINTS) - blender_projection(camera, frame, POINTS)).max()
    assert error < 2e-3
    again = capture_camera.intrinsics_from_lens(capture_camera.read_lens(camera.data), frame)
    assert np.allclose(again, pinhole, atol=1e-3)


def test_very_wide_lens_keeps_its_field_of_view() -> None:
    pinhole = Intrinsics(1000, 1000, 10.0, 10.0, 500.0, 500.0)  # 0.36 mm on full frame: below Blender's least
    lens, frame = capture_camera.lens_from_intrinsics(pinhole)
    camera = new_camera()
    capture_camera.write_lens(camera.data, lens)
    assert np.allclose(blender_projection(camera, frame, POINTS), pinhole_projection(pinhole, POINTS), atol=1e-2)


@pytest.mark.parametrize("wrong", [{"fx": 0.0}, {"width": 0}, {"cx": float("nan")}])
def test_impossible_pinholes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="positive, finite"):
        capture_camera.lens_from_intrinsics(Intrinsics(8, 8, 10.0, 10.0, 4.0, 4.0)._replace(**wrong))


def test_render_size_includes_the_percentage() -> None:
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 333, 200, 50
    assert capture_camera.read_frame(render)[:2] == (166, 100)


def test_scale_is_dropped_from_poses() -> None:
    location, rotation = mathutils.Vector((1, 2, 3)), mathutils.Euler((0.3, -1.1, 2.0))
    matrix = mathutils.Matrix.LocRotScale(location, rotation, (2, 2, 3))
    pose = capture_camera.rigid_pose(matrix)
    assert np.allclose(pose, mathutils.Matrix.LocRotScale(location, rotation, None), atol=1e-6)
    assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    "matrix,word",
    [
        ([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "sheared"),
        (np.diag([-1, 1, 1, 1]), "mirrored"),
        (np.diag([1, 0, 1, 1]), "invertible"),
        (np.full((4, 4), np.nan), "invertible"),
    ],
)
def test_poses_no_photograph_can_have(matrix: object, word: str) -> None:
    with pytest.raises(UserError, match=word):
        capture_camera.rigid_pose(matrix, "Camera.001")


def test_panoramas_are_refused() -> None:
    data = bpy.data.cameras.new("panorama")
    data.type = "PANO"
    with pytest.raises(UserError, match="perspective"):
        capture_camera.read_lens(data)
