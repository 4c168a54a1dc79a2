# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's lens models against Blender's own undistortion, and OpenCV's coefficients against both."""

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.backend.capture.distortion import distorted
from bl_ext.dev.unrender.operators import compat
from bl_ext.dev.unrender.operators.collect_lens import TrackingLens, as_opencv, read_tracking

WIDTH, HEIGHT = 192, 128
CENTER = (100.0, 60.0)  # from the bottom-left corner
LENSES: dict[str, tuple[str, dict[str, float]]] = {
    "polynomial": ("POLYNOMIAL", {"k1": -0.1, "k2": 0.03, "k3": 0.01}),
    "division": ("DIVISION", {"division_k1": -0.1, "division_k2": 0.05}),
    "nuke": ("NUKE", {"nuke_k1": -0.08, "nuke_k2": 0.02}),
    "nuke tangential": ("NUKE", {"nuke_k1": -0.05, "nuke_p1": 0.04, "nuke_p2": -0.06}),
    "brown": ("BROWN", {"brown_k1": -0.1, "brown_k2": 0.03, "brown_p1": 0.01, "brown_p2": -0.02}),
    "brown k4": ("BROWN", {"brown_k1": -0.1, "brown_k3": 0.01, "brown_k4": 0.02, "brown_p1": 0.005}),
}


def position_clip(folder: Path) -> bpy.types.MovieClip:
    """A clip of one frame whose red and green say where each pixel is."""
    image = bpy.data.images.new("positions", WIDTH, HEIGHT, alpha=True, float_buffer=True)
    pixels = np.ones((HEIGHT, WIDTH, 4), np.float32)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    pixels[..., 0], pixels[..., 1] = x / WIDTH, y / HEIGHT
    image.pixels.foreach_set(pixels.ravel())
    image.filepath_raw, image.file_format = str(folder / "positions_0001.exr"), "OPEN_EXR"
    image.save()
    clip = bpy.data.movieclips.load(str(folder / "positions_0001.exr"))
    clip.colorspace_settings.name = "Non-Color"
    clip.tracking.camera.sensor_width, clip.tracking.camera.focal_length = 36.0, 30.0
    clip.tracking.camera.principal_point_pixels = CENTER
    return clip


def set_lens(clip: bpy.types.MovieClip, name: str) -> None:
    model, values = LENSES[name]
    camera: Any = clip.tracking.camera
    camera.distortion_model = model
    for key, value in values.items():
        if not hasattr(camera, key):
            pytest.skip(f"this Blender has no {key}")
        setattr(camera, key, value)


class Undistortion:
    """Renders a clip through the Movie Distortion node."""

    def __init__(self, clip: bpy.types.MovieClip, folder: Path) -> None:
        self.folder = folder
        scene: Any = bpy.context.scene
        scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        scene.collection.objects.link(scene.camera)
        scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
        compat.use_engine(scene, "CYCLES")
        scene.cycles.samples = 1
        scene.view_settings.view_transform = "Raw"
        settings = compat.image_output(scene.render)
        settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
        if hasattr(scene, "compositing_node_group"):
            tree = bpy.data.node_groups.new("undistort", "CompositorNodeTree")
            scene.compositing_node_group = tree
            tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
            output = tree.nodes.new("NodeGroupOutput")
        else:
            scene.use_nodes = True
            tree = scene.node_tree
            tree.nodes.clear()
            output = tree.nodes.new("CompositorNodeComposite")
        source, self.node = tree.nodes.new("CompositorNodeMovieClip"), tree.nodes.new("CompositorNodeMovieDistortion")
        source.clip = self.node.clip = clip
        if hasattr(self.node, "distortion_type"):
            self.node.distortion_type = "UNDISTORT"
        tree.links.new(source.outputs[0], self.node.inputs[0])
        tree.links.new(self.node.outputs[0], output.inputs[0])

    def render(self) -> np.ndarray:
        """[H, W, 2] which pixel (bottom row first) each pixel of the undistorted picture came from."""
        scene: Any = bpy.context.scene
        scene.render.filepath = str(self.folder / "undistorted.exr")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath, check_existing=False)
        pixels = np.empty(WIDTH * HEIGHT * 4, np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
        encoded = pixels.reshape(HEIGHT, WIDTH, 4)[..., :2]  # clips of floats arrive sRGB-encoded
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        return linear * (WIDTH, HEIGHT)


def unplaced(error: np.ndarray, expected: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What is left [P, 2] of the error [H, W, 2] inside when the picture may be moved, before the lens and behind it.

    Compositors of Blender's versions differ in where the centers of pixels lie, and older ones center the result anew.
    """
    along_y, along_x = np.gradient(expected, axis=(0, 1))
    ones = np.ones(error.shape[:2])
    zeros = np.zeros(error.shape[:2])
    x = np.stack([ones, zeros, along_x[..., 0], along_y[..., 0]], axis=-1)
    y = np.stack([zeros, ones, along_x[..., 1], along_y[..., 1]], axis=-1)
    rows = np.stack([x, y], axis=2)[inside]
    shift = np.linalg.lstsq(rows.reshape(-1, 4), error[inside].reshape(-1), rcond=None)[0]
    return error[inside] - rows @ shift


@pytest.mark.parametrize("name", list(LENSES))
def test_the_lens_is_blenders(tmp_path: Path, name: str) -> None:
    clip = position_clip(tmp_path)
    set_lens(clip, name)
    source = Undistortion(clip, tmp_path).render()
    pinhole, lens = read_tracking(clip, WIDTH, HEIGHT)
    assert (pinhole.cx, pinhole.cy) == pytest.approx((CENTER[0], HEIGHT - CENTER[1]), abs=1e-4)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    seen_x, seen_y = lens.shown((x + 0.5 - CENTER[0]) / pinhole.fx, (y + 0.5 - CENTER[1]) / pinhole.fx)
    expected = np.stack([seen_x, seen_y], axis=-1) * pinhole.fx + CENTER - 0.5
    inside = ((expected > 8.0) & (expected < (WIDTH - 9.0, HEIGHT - 9.0))).all(axis=-1)
    inside[:8] = inside[-8:] = inside[:, :8] = inside[:, -8:] = False
    assert np.abs(unplaced(source - expected, expected, inside)).max() < 0.1
    moved = np.abs(expected - np.stack([x, y], axis=-1))[inside].max()
    assert moved > 2.0


@pytest.mark.parametrize("name", list(LENSES))
def test_opencv_coefficients(name: str, tmp_path: Path) -> None:
    clip = position_clip(tmp_path)
    set_lens(clip, name)
    pinhole, lens = read_tracking(clip, WIDTH, HEIGHT)
    coefficients, error = as_opencv(lens, pinhole)
    if name == "nuke tangential":
        assert error > 0.1  # OpenCV has nothing like it: such photographs are undistorted
        return
    assert error < 0.02
    y, x = np.mgrid[0:HEIGHT:4, 0:WIDTH:4].astype(np.float64)
    ideal_x, ideal_y = (x - pinhole.cx) / pinhole.fx, (y - pinhole.cy) / pinhole.fy
    new_x, new_y, _ = distorted(ideal_x, ideal_y, coefficients)
    seen_x, seen_y = lens.shown(ideal_x, -ideal_y)
    error_map = np.hypot(new_x - seen_x, new_y + seen_y) * pinhole.fx
    inside = (np.abs(seen_x * pinhole.fx + pinhole.cx - WIDTH / 2) < WIDTH / 2) & (
        np.abs(-seen_y * pinhole.fy + pinhole.cy - HEIGHT / 2) < HEIGHT / 2
    )
    assert error_map[inside].max() < 0.02


def test_a_straight_lens_has_no_coefficients() -> None:
    lens = TrackingLens("NUKE", (0.0, 0.0), (0.0, 0.0))
    assert lens.straight and as_opencv(lens, None) == ((), 0.0)
