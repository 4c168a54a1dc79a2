# SPDX-License-Identifier: GPL-3.0-or-later
"""The region: a box in the scene that says what is to be reconstructed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import bpy
import mathutils
import numpy as np

from ..backend.capture.model import View
from ..backend.capture.scene_bounds import nearest_point, optical_axes, radius_in_view
from ..backend.errors import UserError
from .blender_context import scene_of, settings_of
from .capture_camera import rigid_pose

if TYPE_CHECKING:
    from .blender_context import OperatorResult

CORNERS = np.array([(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


def build_region(name: str, bounds: np.ndarray) -> bpy.types.Object:
    """An empty drawn as the box `bounds` [2, 3], world; outside of any collection."""
    region = bpy.data.objects.new(name, None)
    region.empty_display_type = "CUBE"
    region.empty_display_size = 1.0
    low, high = bounds
    half = np.maximum(0.5 * (high - low), 1e-9)
    region.matrix_world = mathutils.Matrix.LocRotScale(
        mathutils.Vector((0.5 * (low + high)).tolist()), None, mathutils.Vector(half.tolist())
    )
    return region


def region_of(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The scene's region. One that was deleted still hangs on its property: it counts no more."""
    region: bpy.types.Object | None = settings_of(scene).collect.region
    return region if region is not None and region.name in scene.objects else None


def region_bounds(region: bpy.types.Object) -> np.ndarray:
    """The box [2, 3] along the world's axes around the region, which may be any object; raises UserError."""
    if region.type == "EMPTY":
        corners = CORNERS * region.empty_display_size
    else:
        corners = np.array([tuple(corner) for corner in region.bound_box], np.float64)
    matrix = np.array(region.matrix_world, np.float64)
    world = corners @ matrix[:3, :3].T + matrix[:3, 3]
    bounds = np.stack([world.min(axis=0), world.max(axis=0)])
    if not np.isfinite(bounds).all() or not (bounds[0] < bounds[1]).all():
        raise UserError("the region is flat", where=region.name, expected="a box", remedy="Scale it on every axis.")
    return bounds


def is_turned(region: bpy.types.Object) -> bool:
    """Whether its box does not stand along the world's axes."""
    axes = np.abs(np.array(region.matrix_world, np.float64)[:3, :3])
    return bool((np.sort(axes, axis=0)[:2] > 1e-4 * axes.max()).any())


def estimated_bounds(views: Sequence[View], points: np.ndarray | None = None) -> np.ndarray | None:
    """Where the object may be: the box that most cameras show whole. `points` [P, 3], world, draw it closer.

    None where the cameras look in parallel.
    """
    if len(views) < 2:
        return None
    center = nearest_point(*optical_axes(views))
    if center is None:
        return None
    radius = float(np.median([radius_in_view(view, center) for view in views]))
    if radius <= 0.0:
        return None
    if points is not None:
        near = points[np.linalg.norm(points - center, axis=1) < radius]
        if len(near) >= 50:
            low, high = np.quantile(near, (0.01, 0.99), axis=0)
            margin = 0.05 * float((high - low).max())
            return np.stack([low - margin, high + margin])
    return np.stack([center - radius, center + radius])


class UNRENDER_OT_add_region(bpy.types.Operator):
    """Add the box that says what is to be reconstructed: around the selected objects, or where the cameras look.
    Move and scale it, then collect"""

    bl_idname = "unrender.add_region"
    bl_label = "Add Region"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        scene = scene_of(context)
        bounds = self._around_selected(context)
        if bounds is None:
            bounds = self._where_cameras_look(scene)
        if bounds is None:
            self.report({"WARNING"}, "Neither objects nor cameras say where: the region stands around the 3D cursor.")
            cursor = np.array(scene.cursor.location)
            bounds = np.stack([cursor - 1.0, cursor + 1.0])
        region = build_region("Region", bounds)
        scene.collection.objects.link(region)
        settings_of(scene).collect.region = region
        for other in context.view_layer.objects:
            other.select_set(other == region)
        context.view_layer.objects.active = region
        return {"FINISHED"}

    def _around_selected(self, context: bpy.types.Context) -> np.ndarray | None:
        corners = []
        for item in context.view_layer.objects:
            if item.select_get() and item.type not in ("CAMERA", "LIGHT", "EMPTY", "SPEAKER", "LIGHT_PROBE"):
                matrix = np.array(item.matrix_world, np.float64)
                box = np.array([tuple(corner) for corner in item.bound_box], np.float64)
                corners.append(box @ matrix[:3, :3].T + matrix[:3, 3])
        if not corners:
            return None
        points = np.concatenate(corners)
        margin = 0.05 * max(float(np.ptp(points, axis=0).max()), 1e-6)
        return np.stack([points.min(axis=0) - margin, points.max(axis=0) + margin])

    def _where_cameras_look(self, scene: bpy.types.Scene) -> np.ndarray | None:
        origins, directions = [], []
        for item in scene.objects:
            if item.type == "CAMERA" and item.visible_get():
                try:
                    pose = rigid_pose(item.matrix_world, item.name)
                except UserError:
                    continue
                origins.append(pose[:3, 3])
                directions.append(-pose[:3, 2])
        if len(origins) < 2:
            return None
        center = nearest_point(np.stack(origins), np.stack(directions))
        if center is None:
            return None
        radius = 0.25 * float(np.median(np.linalg.norm(np.stack(origins) - center, axis=1)))
        return np.stack([center - radius, center + radius])
