# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras of a result, standing where the photographs were taken from, each with its photograph behind it."""

import os
from pathlib import Path

import bpy
import mathutils
import numpy as np

from .capture_camera import Frame, lens_from_intrinsics, rigid_pose, write_frame, write_lens
from .images import blend_folder
from .result_folder import ResultView


def build_camera(view: ResultView, prefix: str, bounds: np.ndarray) -> bpy.types.Object:
    """A camera object outside the scene. The asset's world box `bounds` [2, 3] sets clipping and drawn size."""
    data = bpy.data.cameras.new(f"{prefix} {view.name}")
    camera = bpy.data.objects.new(data.name, data)
    lens, frame = lens_from_intrinsics(view.pinhole)
    write_lens(data, lens)
    pose = rigid_pose(view.cam_to_world, view.name)
    camera.matrix_world = mathutils.Matrix(pose.tolist())
    size = float(np.linalg.norm(bounds[1] - bounds[0])) or 1.0
    distance = float(np.linalg.norm(pose[:3, 3] - bounds.mean(axis=0)))
    data.clip_start, data.clip_end = max(size * 1e-3, 1e-6), max(100.0, 10 * (distance + size))
    data.display_size = 0.05 * size
    data.passepartout_alpha = 0.9
    # The size is a setting of the scene in Blender: what `look_through` and the renderer need travels with the camera.
    camera["unrender_view"] = view.name
    camera["unrender_split"] = view.split
    camera["unrender_resolution"] = [frame.width, frame.height]
    camera["unrender_pixel_aspect"] = [frame.aspect_x, frame.aspect_y]
    return camera


def add_photo(camera: bpy.types.Object, photo: Path) -> None:
    """Shows the photograph behind (or, with a click, over) what the camera sees. Loaded when it is first drawn."""
    data = camera.data
    assert isinstance(data, bpy.types.Camera)
    background = data.background_images.new()
    image = bpy.data.images.load(str(photo), check_existing=True)
    folder = blend_folder()
    if folder is not None and os.path.splitdrive(photo)[0] == os.path.splitdrive(folder)[0]:
        image.filepath = bpy.path.relpath(image.filepath)
    background.image = image
    background.frame_method = "FIT"
    background.alpha = 1.0
    data.show_background_images = True


def look_through(scene: bpy.types.Scene, camera: bpy.types.Object) -> None:
    """Makes it the scene's camera and gives the scene the photograph's size and pixel shape."""
    scene.camera = camera
    size = camera.get("unrender_resolution")
    if size is not None:
        width, height = size
        write_frame(scene.render, Frame(width, height, *camera["unrender_pixel_aspect"]))
