# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene of its own with the chosen objects under the artist's light, to render them from all around.

The artist's scene is not changed at all, so nothing has to be put back; this scene goes when the work is over.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import bpy
import mathutils
import numpy as np

from ..backend.capture.model import Camera
from ..backend.errors import UserError
from . import compat
from .capture_camera import intrinsics_from_lens, read_frame, read_lens, rigid_pose
from .render_capture_cameras import LENS, SENSOR

SHOWN = ("MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "POINTCLOUD", "VOLUME")


@dataclass(frozen=True)
class Quality:
    """How each picture is rendered."""

    engine: Literal["CYCLES", "EEVEE"]
    size: int  # pixels of each side
    samples: int


class StudioScene:
    """Open it with `with`; raises UserError where there is nothing to render, or nothing that lights it."""

    def __init__(self, source: bpy.types.Scene, objects: list[bpy.types.Object], quality: Quality) -> None:
        self.source, self.objects, self.quality = source, objects, quality
        self.scene: Any = None
        self.camera: Any = None
        self.data: Any = None

    def __enter__(self) -> "StudioScene":
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def _build(self) -> None:
        lights = [item for item in self.source.objects if item.type == "LIGHT" and not item.hide_render]
        if not lights and self.source.world is None and not any(map(_glows, self.objects)):
            raise UserError(
                "nothing lights the objects", where=self.source.name, remedy="Add a light, or a world to the scene."
            )
        self.scene = bpy.data.scenes.new("Unrender Studio")
        for item in dict.fromkeys((*self.objects, *lights)):
            self.scene.collection.objects.link(item)
        self.scene.world = self.source.world
        self.scene.frame_set(self.source.frame_current, subframe=self.source.frame_subframe)
        self.data = bpy.data.cameras.new("Unrender Studio")
        self.data.lens_unit, self.data.sensor_fit = "MILLIMETERS", "HORIZONTAL"
        self.data.lens, self.data.sensor_width = LENS, SENSOR
        self.camera = bpy.data.objects.new("Unrender Studio", self.data)
        self.scene.collection.objects.link(self.camera)
        self.scene.camera = self.camera
        self._set_render()

    def _set_render(self) -> None:
        scene, source = self.scene, self.source
        render = scene.render
        compat.use_engine(scene, self.quality.engine)
        render.resolution_x = render.resolution_y = self.quality.size
        render.resolution_percentage = 100
        render.pixel_aspect_x = render.pixel_aspect_y = 1.0
        render.film_transparent = True
        render.use_compositing = render.use_sequencer = False
        render.use_border = render.use_motion_blur = False
        render.dither_intensity = 0.0
        render.use_persistent_data = True
        scene.display_settings.display_device = "sRGB"
        scene.view_settings.view_transform = "Standard"
        scene.view_settings.look = "None"
        # The artist's exposure makes the picture bright enough; the capture says how much it was.
        scene.view_settings.exposure = source.view_settings.exposure
        scene.view_settings.gamma = 1.0
        settings = compat.image_output(render)
        settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
        if self.quality.engine == "CYCLES":
            if hasattr(source, "cycles"):
                scene.cycles.device = source.cycles.device
            scene.cycles.samples = self.quality.samples
            scene.cycles.use_denoising = scene.cycles.use_adaptive_sampling = False
        else:
            scene.eevee.taa_render_samples = self.quality.samples

    def bounds(self) -> tuple[np.ndarray, np.ndarray, float]:
        """The objects' box [2, 3], its center [3] and how far they reach from it, with modifiers and instances."""
        graph = self.scene.view_layers[0].depsgraph
        points = []
        for instance in graph.object_instances:
            item = instance.object
            if item.type not in SHOWN or item.original.hide_render or not instance.show_self:
                continue
            matrix = np.array(instance.matrix_world, np.float64)
            local = _local_points(item)
            points.append(local @ matrix[:3, :3].T + matrix[:3, 3])
        found = np.concatenate(points) if points else np.zeros((0, 3))
        if len(found) == 0 or not np.isfinite(found).all():
            names = ", ".join(item.name for item in self.objects[:4])
            raise UserError("nothing of the selected objects can be rendered", found=names)
        box = np.stack([found.min(axis=0), found.max(axis=0)])
        center = box.mean(axis=0)
        radius = float(np.linalg.norm(found - center, axis=1).max())
        if radius < 1e-9:
            raise UserError("the selected objects have no size", found=self.objects[0].name)
        self.data.clip_start, self.data.clip_end = radius * 1e-2, radius * 1e3
        return box, center, radius

    def intrinsics(self) -> Camera:
        """Of every picture."""
        return Camera(*intrinsics_from_lens(read_lens(self.data), read_frame(self.scene.render)))

    def render(self, pose: np.ndarray, path: Path) -> np.ndarray:
        """Renders from `pose` [4, 4] into `path`; returns the pose as Blender keeps it, in single precision."""
        self.camera.matrix_world = mathutils.Matrix(pose.tolist())
        self.scene.render.filepath = str(path)
        try:
            bpy.ops.render.render(write_still=True, scene=self.scene.name)
        except RuntimeError as error:
            raise UserError("Blender could not render", where=str(path), found=str(error).strip()) from error
        if not path.is_file():
            raise UserError("Blender could not render", where=str(path), found="no picture")
        return rigid_pose(self.camera.matrix_world)

    def _remove(self) -> None:
        if self.scene is not None:
            bpy.data.scenes.remove(self.scene)
        if self.camera is not None:
            bpy.data.objects.remove(self.camera)
        if self.data is not None:
            bpy.data.cameras.remove(self.data)
        self.scene = self.camera = self.data = None


def _local_points(item: Any) -> np.ndarray:
    """Vertices of a mesh, else the corners of the box; [P, 3] float64, object space."""
    if item.type == "MESH" and len(item.data.vertices):
        values = np.empty(3 * len(item.data.vertices), np.float32)
        item.data.vertices.foreach_get("co", values)
        return values.reshape(-1, 3).astype(np.float64)
    return np.array([tuple(corner) for corner in item.bound_box], np.float64)


def _glows(item: bpy.types.Object) -> bool:
    """Whether a material of the object emits light."""
    for slot in item.material_slots:
        tree = slot.material.node_tree if slot.material else None
        if tree is not None and any(node.bl_idname == "ShaderNodeEmission" for node in tree.nodes):
            return True
    return False
