# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects a capture from the scene: looks at what is there, says what it found, and writes it."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import bpy

from ..backend.capture import read_capture
from ..backend.capture.checks import Notes, hold_out
from ..backend.capture.model import Capture, View
from ..backend.errors import UserError
from . import collect_cameras, collect_folder, preflight
from .blender_context import scene_of, settings_of
from .collect_pixels import Movies, write_pixels, write_undistorted
from .collect_plan import Findings, Plan, PlannedView, checked, figures, without_doubles
from .collect_region import is_turned, region_bounds, region_of
from .collect_steps import SteppedOperator, Steps
from .collect_write import CaptureFolder
from .job_places import kept_folder

if TYPE_CHECKING:
    from .blender_context import OperatorResult


def plan_capture(scene: bpy.types.Scene) -> Plan:
    """What collecting would write now. Changes nothing; raises UserError where nothing can be said at all."""
    settings = settings_of(scene).collect
    findings = Findings()
    if settings.source == "FOLDER":
        if not settings.images:
            raise UserError("no folder of images is chosen", remedy="Choose it in the Capture panel.")
        cameras = collect_cameras.cameras_of(scene, True, findings)
        views = collect_folder.views_of(scene, cameras, Path(bpy.path.abspath(settings.images)), findings)
    else:
        cameras = collect_cameras.cameras_of(scene, settings.selected_only, findings)
        views = collect_cameras.views_of(scene, cameras, settings.frame_step, findings)
    views = without_doubles(views, findings)
    if settings.masks:
        views = collect_folder.with_masks(views, Path(bpy.path.abspath(settings.masks)), findings)
    views = checked(views, findings)
    figures(views, findings)
    bounds = None
    region = region_of(scene)
    if region is not None:
        try:
            bounds = region_bounds(region)
        except UserError as error:
            findings.add("ERROR", f"The region was left out: {error}")
        if is_turned(region):
            findings.add("WARNING", "The region is turned; the upright box around it is used")
    return Plan(tuple(views), bounds, findings.sorted())


def write_plan(plan: Plan, folder: Path, ours: bool, holdout: int) -> Steps:
    """Writes the planned capture into `folder`, step by step; returns the file's path as text."""
    if not plan.ready:
        grave = next((line.text for line in plan.lines if line.level == "ERROR"), "too few photographs")
        raise UserError("nothing was collected", found=grave, remedy="See the list in the Capture panel.")
    with CaptureFolder(folder, ours) as target, Movies() as movies:
        written: list[tuple[PlannedView, str, str]] = []  # with the names of the photograph and the mask in it
        done = 0
        stems: Counter[str] = Counter()
        for view in plan.views:
            photo = mask = ""
            if view.photo is None or view.lens is not None:
                yield done, plan.work, f"Writing {view.name}"
                stem = bpy.path.clean_name(view.name)
                stems[stem.lower()] += 1
                again = stems[stem.lower()]
                photo, mask = _write_view(view, target.part / (f"{stem}~{again}" if again > 1 else stem), movies)
                done += 1
            written.append((view, photo, mask))

        def build(images: Path) -> Capture:
            views = [_view(view, images, photo, mask) for view, photo, mask in written]
            return Capture(
                target.folder, hold_out(views, holdout if holdout > 1 else 0, Notes()), "capture.json", plan.bounds
            )

        return str(target.commit(build))


def _write_view(view: PlannedView, stem: Path, movies: Movies) -> tuple[str, str]:
    """Writes photograph and, where it must be undistorted, mask; returns their names beside `stem`."""
    photo, mask = view.photo, ""
    if photo is None:
        assert view.pixels is not None
        photo = write_pixels(view.pixels, stem, movies)
    if view.lens is None:
        return photo.name, mask
    source, original = photo, photo if view.photo is None else None
    photo = write_undistorted(source, stem.with_name(f"{stem.name}_undistorted"), view.camera, view.lens, mask=False)
    if original is not None:
        original.unlink()
    if view.mask is not None:
        mask = write_undistorted(view.mask, stem.with_name(f"{stem.name}_mask"), view.camera, view.lens, mask=True).name
    return photo.name, mask


def _view(view: PlannedView, images: Path, photo: str, mask: str) -> View:
    image = images / photo if photo else view.photo
    assert image is not None
    mask_file = images / mask if mask else view.mask
    return View(
        view.name,
        image.resolve(),
        view.camera,
        view.pose,
        mask_file.resolve() if mask_file else None,
        view.split,
        view.exposure,
    )


def capture_folder(scene: bpy.types.Scene, name: str) -> tuple[Path, bool]:
    """Where a capture called `name` goes, and whether the one there is this scene's own and may be replaced."""
    settings = settings_of(scene).collect
    written = Path(bpy.path.abspath(settings.written)) if settings.written else None
    if settings.folder:
        chosen = Path(bpy.path.abspath(settings.folder))
        return chosen, chosen == written
    if bpy.data.filepath:
        parent = Path(bpy.data.filepath).parent / "unrender" / "captures"
    else:
        parent = kept_folder("captures")
    name = bpy.path.clean_name(name) or "capture"
    number = 1
    while (folder := parent / (name if number == 1 else f"{name}_{number}")).exists():
        if folder == written:
            return folder, True
        number += 1
    return folder, False


def remember(scene: bpy.types.Scene, folder: Path, placed: bool) -> None:
    """The scene's next reconstruction is of this capture, which this scene may replace. `placed`: whether it is what
    the scene's cameras and region show."""
    settings = settings_of(scene)
    settings.capture = settings.collect.written = str(folder)
    settings.collect.placed = str(folder) if placed else ""
    settings.collect.turned = False


def collect(scene: bpy.types.Scene) -> Steps:
    """Writes what the scene's cameras and region show as its capture; returns what to say."""
    plan = plan_capture(scene)
    preflight.show_plan(scene, plan)
    name = Path(bpy.data.filepath).stem if bpy.data.filepath else scene.name
    folder, ours = capture_folder(scene, name)
    path = yield from write_plan(plan, folder, ours, settings_of(scene).collect.holdout)
    remember(scene, Path(path).parent, placed=True)
    preflight.show_capture(scene, read_capture(Path(path)), plan.lines)
    return f"{plan.summary()} in {Path(path).parent}"


class UNRENDER_OT_collect(SteppedOperator, bpy.types.Operator):
    """Write the cameras, photographs and region of this scene as a capture, for Reconstruct.
    Photographs are referred to where they are; only movie frames, packed and undistorted ones are written"""

    bl_idname = "unrender.collect"
    bl_label = "Collect"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        scene = context.scene
        if scene is None or not any(item.type == "CAMERA" for item in scene.objects):
            cls.poll_message_set("The scene has no cameras: open a capture, or add the cameras of the photographs")
            return False
        return True

    def steps(self, context: bpy.types.Context) -> Steps:
        return (yield from collect(scene_of(context)))


class UNRENDER_OT_check_capture(bpy.types.Operator):
    """Look at what Collect would write: which photographs, cameras and masks were found, and what is wrong.
    Writes nothing; takes a second or so for each hundred photographs"""

    bl_idname = "unrender.check_capture"
    bl_label = "Check"
    bl_options = {"REGISTER"}

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        scene = scene_of(context)
        try:
            plan = plan_capture(scene)
        except UserError as error:
            preflight.show_error(scene, str(error))
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        preflight.show_plan(scene, plan)
        self.report({"INFO"}, plan.summary())
        return {"FINISHED"}
