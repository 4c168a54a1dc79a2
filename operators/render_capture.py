# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a capture of the scene's own objects, so that they can be rebuilt, retopologised or baked anew."""

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..backend.capture import Capture, View, read_capture
from ..backend.errors import UserError
from . import preflight
from .blender_context import scene_of, settings_of
from .collect_capture import capture_folder, remember
from .collect_steps import SteppedOperator, Steps
from .collect_write import CaptureFolder
from .render_capture_cameras import distance, dome, pose_towards, turntable
from .render_capture_scene import SHOWN, Quality, StudioScene

PADDING = 0.05  # of the longest side, around the objects' box


def chosen_objects(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The selected objects and what hangs on them, as far as renders show them."""
    chosen: dict[bpy.types.Object, None] = {}
    for item in context.view_layer.objects:
        if item.select_get():
            chosen |= dict.fromkeys((item, *item.children_recursive))
    kinds = (*SHOWN, "EMPTY")  # an empty may stand for a collection
    return [item for item in chosen if item.type in kinds and not item.hide_render]


def render_capture(
    scene: bpy.types.Scene, objects: list[bpy.types.Object], folder: Path, ours: bool, settings: Any
) -> Steps:
    """Renders `objects` from all around into `folder`, one view a step; returns the path of the capture's file.

    `settings`: panels.capture_properties.UNRENDER_PG_render_capture.
    """
    if settings.layout == "DOME":
        directions = dome(settings.views, settings.lowest, settings.highest)
    else:
        directions = turntable(settings.views, settings.elevation)
    quality = Quality(settings.engine, settings.size, settings.samples)
    exposure = scene.view_settings.exposure
    with CaptureFolder(folder, ours) as target, StudioScene(scene, objects, quality) as studio:
        target.part.mkdir()
        box, center, radius = studio.bounds()
        camera = studio.intrinsics()
        poses = []
        for index, direction in enumerate(directions):
            yield index, len(directions), f"Rendering view {index + 1}"
            pose = pose_towards(center, direction, distance(radius))
            poses.append(studio.render(pose, target.part / f"{index:04d}.png"))
        padding = PADDING * float(np.ptp(box, axis=0).max())
        bounds = np.stack([box[0] - padding, box[1] + padding])

        def build(images: Path) -> Capture:
            views = []
            for index, pose in enumerate(poses):
                split = "test" if settings.holdout > 1 and index % settings.holdout == 0 else "train"
                name = f"{index:04d}"
                views.append(View(name, images / f"{name}.png", camera, pose, None, split, exposure or None))
            return Capture(target.folder, tuple(views), "capture.json", bounds)

        return str(target.commit(build))


class UNRENDER_OT_render_capture(SteppedOperator, bpy.types.Operator):
    """Render the selected objects from all around, with masks, as a capture for Reconstruct.
    Takes as long as the renders take; Esc cancels, and nothing of the scene is changed"""

    bl_idname = "unrender.render_capture"
    bl_label = "Render Capture"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not any(item.type in SHOWN for item in chosen_objects(context)) and not any(
            item.instance_collection for item in chosen_objects(context)
        ):
            cls.poll_message_set("Select the objects to render a capture of")
            return False
        return True

    def steps(self, context: bpy.types.Context) -> Steps:
        scene = scene_of(context)
        settings = settings_of(scene).render_capture
        objects = chosen_objects(context)
        active = context.view_layer.objects.active
        name = active.name if active is not None and active in objects else objects[0].name
        if settings.layout == "DOME" and settings.lowest >= settings.highest:
            raise UserError(
                "the dome's lowest camera is not below its highest",
                expected="Lowest below Highest",
                found=f"{np.degrees(settings.lowest):.0f} and {np.degrees(settings.highest):.0f} degrees",
            )
        folder, ours = capture_folder(scene, name)
        path = Path((yield from render_capture(scene, objects, folder, ours, settings)))
        remember(scene, path.parent, placed=False)
        preflight.show_capture(scene, read_capture(path))
        return f"{settings.views} views of {name} in {path.parent}"
