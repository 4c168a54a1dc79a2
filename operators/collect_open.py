# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens a capture of any format: its cameras stand in the scene, with their photographs, and a region around."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import mathutils
import numpy as np
from bpy.props import BoolProperty, StringProperty

from ..backend.capture import Capture, View, read_capture
from ..backend.capture.colmap import FORMAT, find_model, read_points
from ..backend.errors import UserError
from . import preflight
from .blender_context import scene_of, settings_of
from .cameras import add_photo, build_camera, look_through
from .capture_camera import Intrinsics
from .collect_region import build_region, estimated_bounds
from .result_folder import ResultView

if TYPE_CHECKING:
    from .blender_context import OperatorResult

MOST_POINTS = 200_000  # to show; more only make the viewport slow


class UNRENDER_OT_open_capture(bpy.types.Operator):
    """Open a capture: capture.json, transforms.json or a COLMAP model. Its cameras come into the scene with their
    photographs behind them, and a region to move and scale. Photographs load when they are first drawn"""

    bl_idname = "unrender.open_capture"
    bl_label = "Open Capture"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(
        name="Capture",
        description="The capture's folder, or its file",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_folder: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_glob: StringProperty(default="*.json;cameras.*;images.*", options={"HIDDEN", "SKIP_SAVE"})
    upright: BoolProperty(
        name="Turn Upright",
        description="Turn a COLMAP model, whose up is arbitrary, so that its cameras stand upright. "
        "It hangs on an empty that can be turned and scaled further",
        default=True,
    )
    points: BoolProperty(
        name="Points",
        description="Show the points of a COLMAP model, to place the region by",
        default=True,
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> "OperatorResult":
        if not self.properties.is_property_set("filepath"):
            self.filepath = first_folder(scene_of(context))
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        scene = scene_of(context)
        path = Path(bpy.path.abspath(self.filepath))
        try:
            capture = read_capture(path)
            points = _points(path) if capture.format == FORMAT else None
        except UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        folder = path if path.is_dir() else path.parent
        turn = upright_turn(capture.views) if self.upright and capture.format == FORMAT else np.eye(4)
        name = folder.resolve().name or "capture"
        cameras, region = place_capture(scene, capture, name, turn, points if self.points else None)
        settings = settings_of(scene)
        settings.capture = settings.collect.placed = str(path)
        settings.collect.turned = not np.allclose(turn, np.eye(4), atol=1e-6)
        settings.collect.region = region
        settings.collect.source = "SCENE"
        if scene.camera is None:
            look_through(scene, cameras[0])
        preflight.show_capture(scene, capture)
        for warning in capture.warnings:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, f"{name}: {len(cameras)} cameras from {capture.format}")
        return {"FINISHED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "upright")
        layout.prop(self, "points")


def first_folder(scene: bpy.types.Scene) -> str:
    """Where the file browser opens. It ends with a separator: a name after it, as Blender's own choice has, would have
    to be deleted before a folder can be opened."""
    capture = bpy.path.abspath(settings_of(scene).capture)
    folder = Path(capture or bpy.data.filepath or Path.home())
    return f"{folder if folder.is_dir() else folder.parent}{os.sep}"


def place_capture(
    scene: bpy.types.Scene, capture: Capture, name: str, turn: np.ndarray, points: np.ndarray | None
) -> tuple[list[bpy.types.Object], bpy.types.Object | None]:
    """The capture as a collection of the scene. `turn` [4, 4] goes on the empty that all of it hangs on.

    Returns the cameras, and the region where one is known or can be estimated.
    """
    turned = points @ turn[:3, :3].T + turn[:3, 3] if points is not None else None
    views = [_turned(view, turn) for view in capture.views]
    bounds = _turned_bounds(capture.bounds, turn) if capture.bounds is not None else estimated_bounds(views, turned)
    collection = bpy.data.collections.new(f"{name} Capture")
    root = bpy.data.objects.new(f"{name} Capture", None)
    root.matrix_world = mathutils.Matrix(turn.tolist())
    collection.objects.link(root)
    drawn = bounds if bounds is not None else _around_cameras(views)
    root.empty_display_size = 0.05 * float(np.linalg.norm(drawn[1] - drawn[0]))
    cameras = []
    for view in views:
        camera = build_camera(
            ResultView(view.name, view.split, _intrinsics(view), view.cam_to_world, view.image), name, drawn
        )
        add_photo(camera, view.image)
        if view.camera.distorted:
            camera["unrender_distortion"] = list(view.camera.distortion)
        if view.mask is not None:
            camera["unrender_mask"] = str(view.mask)
        if view.exposure is not None:
            camera["unrender_exposure"] = view.exposure
        _hang(camera, root, collection, turn)
        cameras.append(camera)
    region = None
    if bounds is not None:
        region = build_region(f"{name} Region", bounds)
        _hang(region, root, collection, turn)
    if points is not None and len(points):
        cloud = bpy.data.meshes.new(f"{name} Points")
        shown = points[:: max(1, len(points) // MOST_POINTS)]
        cloud.vertices.add(len(shown))
        cloud.vertices.foreach_set("co", shown.astype(np.float32).ravel())
        item = bpy.data.objects.new(cloud.name, cloud)
        item.hide_render = item.hide_select = True
        item.parent = root
        collection.objects.link(item)
    scene.collection.children.link(collection)
    return cameras, region


def upright_turn(views: tuple[View, ...]) -> np.ndarray:
    """[4, 4] the smallest turn around the origin that brings the mean of the cameras' up axes to +z."""
    up = np.mean([view.cam_to_world[:3, 1] for view in views], axis=0)
    length = float(np.linalg.norm(up))
    turn = np.eye(4)
    if length < 1e-3:  # cameras all around, or on their sides: nobody knows
        return turn
    up = mathutils.Vector((up / length).tolist())
    turn[:3, :3] = np.array(up.rotation_difference(mathutils.Vector((0.0, 0.0, 1.0))).to_matrix())
    return turn


def _points(path: Path) -> np.ndarray | None:
    model = find_model(path)
    return read_points(model) if model is not None else None


def _turned(view: View, turn: np.ndarray) -> View:
    return View(view.name, view.image, view.camera, turn @ view.cam_to_world, view.mask, view.split, view.exposure)


def _turned_bounds(bounds: np.ndarray, turn: np.ndarray) -> np.ndarray:
    corners = np.array([[bounds[i, 0], bounds[j, 1], bounds[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    corners = corners @ turn[:3, :3].T + turn[:3, 3]
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _around_cameras(views: list[View]) -> np.ndarray:
    centers = np.stack([view.center for view in views])
    return np.stack([centers.min(axis=0) - 0.5, centers.max(axis=0) + 0.5])


def _intrinsics(view: View) -> Intrinsics:
    camera = view.camera
    return Intrinsics(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)


def _hang(item: bpy.types.Object, root: bpy.types.Object, collection: bpy.types.Collection, turn: np.ndarray) -> None:
    """Parents it without moving it."""
    item.parent = root
    item.matrix_parent_inverse = mathutils.Matrix(np.linalg.inv(turn).tolist())
    collection.objects.link(item)
