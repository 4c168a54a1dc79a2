# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what a camera sees with its photograph: left of a line the photograph, right of it the scene.

Drawn over the viewport, so that neither the camera nor the photograph's image changes. Only the photographs behind the
cameras are switched off meanwhile: where the reconstruction has a hole, the photograph must not fill it.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d

from .blender_context import scene_of, settings_of

if TYPE_CHECKING:
    from .blender_context import OperatorResult

HIDDEN = "unrender_photo_hidden"  # on cameras whose photograph we switched off


class Rectangle(NamedTuple):
    """In pixels of a viewport, from its lower left corner."""

    left: float
    bottom: float
    right: float
    top: float


def wipe_switched(settings: Any, context: bpy.types.Context) -> None:
    """The toggle was clicked: photographs behind the scene's cameras go, or come back."""
    for camera in scene_cameras(settings.id_data):
        data = camera.data
        assert isinstance(data, bpy.types.Camera)
        if settings.wipe and data.show_background_images and photo_of(camera) is not None:
            data.show_background_images = False
            data[HIDDEN] = True
        elif not settings.wipe and data.get(HIDDEN):
            data.show_background_images = True
            del data[HIDDEN]


def scene_cameras(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """The cameras of a scene."""
    return [candidate for candidate in scene.objects if isinstance(candidate.data, bpy.types.Camera)]


def photo_of(camera: bpy.types.Object | None) -> bpy.types.CameraBackgroundImage | None:
    """The photograph behind a camera: the first of its background images that is a picture."""
    data = camera.data if camera is not None else None
    if not isinstance(data, bpy.types.Camera):
        return None
    return next((shown for shown in data.background_images if shown.source == "IMAGE" and shown.image), None)


def view_of(context: bpy.types.Context) -> bpy.types.RegionView3D | None:
    """How the 3D viewport at hand looks at the scene. Its sidebar, where our buttons stand, has no view of its own."""
    space = context.space_data
    if context.region_data is None and isinstance(space, bpy.types.SpaceView3D):
        return space.region_3d
    return context.region_data


def camera_of_view(context: bpy.types.Context) -> bpy.types.Object | None:
    """The camera that the 3D viewport at hand looks through."""
    space, view = context.space_data, view_of(context)
    if not isinstance(space, bpy.types.SpaceView3D) or view is None or view.view_perspective != "CAMERA":
        return None
    return space.camera if space.use_local_camera else scene_of(context).camera


def why_no_wipe(context: bpy.types.Context) -> str:
    """Why there is nothing to compare in the viewport at hand, "" if there is."""
    camera = camera_of_view(context)
    if camera is None:
        return "Look through a camera of the capture first (Numpad 0)."
    if photo_of(camera) is None:
        return f"The camera {camera.name} has no photograph behind it."
    return ""


def frame_of(
    region: bpy.types.Region | None,
    view: bpy.types.RegionView3D | None,
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
) -> Rectangle | None:
    """Where the camera's frame is in a viewport; None where it cannot be told."""
    data = camera.data
    if region is None or view is None or not isinstance(data, bpy.types.Camera):
        return None
    pose = camera.matrix_world.normalized()
    corners = [location_3d_to_region_2d(region, view, pose @ corner) for corner in data.view_frame(scene=scene)]
    found = [corner for corner in corners if corner is not None]
    if len(found) < 4:
        return None
    across, up = [corner.x for corner in found], [corner.y for corner in found]
    return Rectangle(min(across), min(up), max(across), max(up))


def fitted(frame: Rectangle, aspect: float, method: str) -> Rectangle:
    """Where a picture with an aspect (width by height, as displayed) lies in the camera's frame."""
    width, height = frame.right - frame.left, frame.top - frame.bottom
    if method == "STRETCH" or min(width, height, aspect) <= 0:
        return frame
    wider = aspect > width / height
    if wider == (method == "FIT"):
        size = width, width / aspect
    else:
        size = height * aspect, height
    x, y = (frame.left + frame.right) / 2, (frame.bottom + frame.top) / 2
    return Rectangle(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)


class UNRENDER_OT_drag_wipe(bpy.types.Operator):
    """Move the line between photograph and reconstruction with the mouse. Click or Enter keeps it where it is, Escape
    puts it back"""

    bl_idname = "unrender.drag_wipe"
    bl_label = "Drag the Line"
    bl_options = {"INTERNAL", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        reason = why_no_wipe(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> "OperatorResult":
        settings = settings_of(scene_of(context))
        self._before = settings.wipe, settings.wipe_position
        settings.wipe = True
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> "OperatorResult":
        settings = settings_of(scene_of(context))
        if event.type in ("ESC", "RIGHTMOUSE"):
            settings.wipe, settings.wipe_position = self._before
            redraw(context)
            return {"CANCELLED"}
        if event.type in ("LEFTMOUSE", "RET", "NUMPAD_ENTER"):
            return {"FINISHED"} if event.value == "PRESS" else {"RUNNING_MODAL"}
        if event.type == "MOUSEMOVE":
            self._follow(context, event)
        return {"RUNNING_MODAL"}

    def _follow(self, context: bpy.types.Context, event: bpy.types.Event) -> None:
        """Puts the line under the mouse. The button's own region is the sidebar: the viewport's is beside it."""
        camera, area = camera_of_view(context), context.area
        region = next((region for region in area.regions if region.type == "WINDOW"), None) if area else None
        if camera is None or region is None:
            return
        frame = frame_of(region, view_of(context), scene_of(context), camera)
        if frame is not None and frame.right > frame.left:
            place = (event.mouse_x - region.x - frame.left) / (frame.right - frame.left)
            settings_of(scene_of(context)).wipe_position = min(max(place, 0.0), 1.0)
        redraw(context)


def redraw(context: bpy.types.Context) -> None:
    """Draws the viewport at hand again."""
    if context.area is not None:
        context.area.tag_redraw()
