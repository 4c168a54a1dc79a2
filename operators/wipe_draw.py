# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the photograph over the viewport, up to the line. Called by Blender for each 3D viewport, each time."""

from typing import Any

import bpy
import gpu
from gpu_extras.batch import batch_for_shader

from .blender_context import settings_of
from .wipe import Rectangle, camera_of_view, fitted, frame_of, photo_of

LINE_COLOR = (1.0, 1.0, 1.0, 0.8)
BEHIND_COLOR = (0.1, 0.1, 0.1, 1.0)  # where the photograph is transparent, the scene must not show through
LINE_WIDTH = 2.0

_handle: Any = None


def draw() -> None:
    """The draw handler. An error in it would come again with every frame: what cannot be drawn is left out."""
    context = bpy.context
    scene = context.scene
    if scene is None or not settings_of(scene).wipe:
        return
    camera = camera_of_view(context)
    photo = photo_of(camera)
    if camera is None or photo is None or photo.image is None:
        return
    frame = frame_of(context.region, context.region_data, scene, camera)
    if frame is None or not all(photo.image.size):  # a file that is not on this machine has no size
        return
    line = frame.left + (frame.right - frame.left) * settings_of(scene).wipe_position
    width, height = photo.image.size
    # Pixels that are not square are as wide as the render's: the photograph fills the frame as it did when taken.
    aspect = width / height * scene.render.pixel_aspect_x / scene.render.pixel_aspect_y
    place = fitted(frame, aspect, photo.frame_method)
    gpu.state.blend_set("ALPHA")
    try:
        draw_photo(photo.image, place, frame, line)
        half = LINE_WIDTH / 2
        draw_rectangle(Rectangle(line - half, frame.bottom, line + half, frame.top), LINE_COLOR)
    finally:
        gpu.state.blend_set("NONE")


def draw_photo(image: bpy.types.Image, place: Rectangle, frame: Rectangle, line: float) -> None:
    """The part of a picture at `place` that lies inside the frame and left of the line."""
    left, right = max(place.left, frame.left), min(place.right, frame.right, line)
    bottom, top = max(place.bottom, frame.bottom), min(place.top, frame.top)
    if left >= right or bottom >= top:
        return
    u = [(x - place.left) / (place.right - place.left) for x in (left, right)]
    v = [(y - place.bottom) / (place.top - place.bottom) for y in (bottom, top)]
    try:
        texture = gpu.texture.from_image(image)
    except RuntimeError:  # no picture, or none that the GPU can hold
        return
    draw_rectangle(Rectangle(left, bottom, right, top), BEHIND_COLOR)
    shader = gpu.shader.from_builtin("IMAGE_SCENE_LINEAR_TO_REC709_SRGB")
    corners = {
        "pos": ((left, bottom), (right, bottom), (right, top), (left, top)),
        "texCoord": ((u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1])),
    }
    batch = batch_for_shader(shader, "TRI_FAN", corners)
    shader.bind()
    shader.uniform_sampler("image", texture)
    batch.draw(shader)


def draw_rectangle(place: Rectangle, color: tuple[float, float, float, float]) -> None:
    """A rectangle of one color."""
    left, bottom, right, top = place
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    batch = batch_for_shader(shader, "TRI_FAN", {"pos": ((left, bottom), (right, bottom), (right, top), (left, top))})
    shader.uniform_float("color", color)
    batch.draw(shader)


def register() -> None:
    global _handle
    if not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(draw, (), "WINDOW", "POST_PIXEL")


def unregister() -> None:
    global _handle
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
        _handle = None
