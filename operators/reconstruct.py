# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts a reconstruction in the background, and passes on what the artist asks of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ..backend.capture import read_capture
from ..backend.errors import UserError
from ..backend.job import JobFolder, read_settings
from . import follow, preflight, queue_jobs, scene_jobs
from .blender_context import scene_of, settings_of
from .collect_capture import collect
from .collect_steps import SteppedOperator, Steps
from .job_places import job_folder
from .queue_files import Entry
from .start_mesh import start_mesh_of, withdraw_start_mesh, write_start_mesh

if TYPE_CHECKING:
    from .blender_context import OperatorResult

REQUEST_ITEMS = (
    (
        "pause",
        "Pause",
        "Hold the reconstruction after its present step. It keeps its memory; processor and GPU are free",
    ),
    ("resume", "Resume", "Let the paused reconstruction go on"),
    ("finish", "Finish Now", "Stop improving and export what is there. Takes from seconds to a minute"),
    ("stop", "Stop", "End the reconstruction without a result. Its last checkpoint is kept, so it can be continued"),
)


class UNRENDER_OT_reconstruct(SteppedOperator, bpy.types.Operator):
    """Reconstruct the capture in the background, from minutes to an hour by preset and machine; Blender stays free.
    A region that was moved is collected first. While another job runs it waits in the queue.
    The first time it also downloads what it needs, about 1 GB or more"""

    bl_idname = "unrender.reconstruct"
    bl_label = "Reconstruct"
    bl_options = {"REGISTER"}

    resume: BoolProperty(
        name="Continue",
        description="Go on from the last checkpoint instead of starting anew",
        default=False,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        if getattr(properties, "resume", False):
            return "Go on from the job's last checkpoint, in the background"
        return (cls.__doc__ or "").replace("\n    ", " ")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        reason = why_not(scene_of(context))
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def steps(self, context: bpy.types.Context) -> Steps:
        scene = scene_of(context)
        settings = settings_of(scene)
        start = None if self.resume else start_mesh_of(scene)  # a checkpoint goes on from where it is
        if not self.resume and is_outdated(scene):
            yield from collect(scene)
        capture = Path(bpy.path.abspath(settings.capture))
        previous = follow.job_of(scene)
        at_work = [watch.folder for watch in follow.WATCHES.values() if watch.active]
        folder = previous.folder if self.resume and previous else job_folder(scene, capture, at_work)
        if folder in at_work or JobFolder(folder).running_pid() or queue_jobs.is_promised(folder):
            raise UserError(
                "a reconstruction is at work there already, or waits to be",
                where=str(folder),
                remedy="Wait for it, stop it, or choose another output folder.",
            )
        options = job_options(settings, self.resume)
        if start is not None:
            path = write_start_mesh(scene, start, folder, lambda text: self._report({"WARNING"}, text))
            options += ("--start-mesh", str(path))
        entry = Entry(str(capture), str(folder), options, settings.import_when_finished)
        try:
            ahead = follow.enqueue(entry)
        except UserError:
            withdraw_start_mesh(folder)
            raise
        scene_jobs.add(scene, folder)
        return f"Waiting for {ahead} before it" if ahead else f"Reconstructing in {folder}"


class UNRENDER_OT_control(bpy.types.Operator):
    """Ask the running reconstruction for something. It answers within a step or so"""

    bl_idname = "unrender.control"
    bl_label = "Control Reconstruction"
    bl_options = {"INTERNAL"}

    request: EnumProperty(name="Request", description="What the reconstruction shall do", items=REQUEST_ITEMS)
    folder: StringProperty(
        name="Job Folder", description="Whose; empty: the scene's job", options={"HIDDEN", "SKIP_SAVE"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        request = getattr(properties, "request", "")
        return next((item[2] for item in REQUEST_ITEMS if item[0] == request), cls.__doc__ or "")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        watch = follow.job_of(context.scene)
        if watch is None or not watch.active:
            cls.poll_message_set("No reconstruction is running.")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        watch = follow.WATCHES.get(Path(self.folder)) if self.folder else follow.job_of(context.scene)
        if watch is None:
            self.report({"ERROR"}, f"{self.folder or 'This scene'}: no job is known here.")
            return {"CANCELLED"}
        try:
            watch.request(self.request)
        except UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        follow.wake()
        return {"FINISHED"}


class UNRENDER_OT_end_job(bpy.types.Operator):
    """End the process of a reconstruction that does not listen, at once and without a result.
    Its last checkpoint is kept, so it can be continued"""

    bl_idname = "unrender.end_job"
    bl_label = "End Process"
    bl_options = {"INTERNAL"}

    folder: StringProperty(name="Job Folder", description="Whose process", options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        watch = follow.WATCHES.get(Path(self.folder))
        if watch is None or not watch.active:
            self.report({"ERROR"}, f"{self.folder or 'This scene'}: no job is at work there.")
            return {"CANCELLED"}
        try:
            watch.end_process()
        except UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        follow.wake()
        return {"FINISHED"}


class UNRENDER_OT_find_job(bpy.types.Operator):
    """Follow a job that was started elsewhere: on the command line, on another machine, or by another Blender"""

    bl_idname = "unrender.find_job"
    bl_label = "Find Job"
    bl_options = {"REGISTER"}

    directory: StringProperty(
        name="Job Folder", description="The folder with events.jsonl in it", subtype="DIR_PATH", options={"SKIP_SAVE"}
    )
    filter_folder: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> "OperatorResult":
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        folder = Path(bpy.path.abspath(self.directory))
        if follow.attach(folder) is None:
            self.report({"ERROR"}, f"{folder}: no job; expected a folder with events.jsonl.")
            return {"CANCELLED"}
        scene_jobs.add(scene_of(context), folder)
        settings = settings_of(scene_of(context))
        if not settings.capture:
            settings.capture = str(read_settings(folder).get("capture", ""))
        return {"FINISHED"}


def why_not(scene: bpy.types.Scene) -> str:
    """Why a reconstruction cannot start from this scene, in a sentence for the button's tooltip; "" if it can."""
    settings = settings_of(scene)
    if not settings.capture:
        return "Choose the capture folder first: photographs with transforms.json or capture.json."
    if not Path(bpy.path.abspath(settings.capture)).exists():
        return "The capture folder does not exist."
    return ""


def is_outdated(scene: bpy.types.Scene) -> bool:
    """Whether the capture on disk lacks the region that stands in the scene, or has its cameras in another frame.
    Raises UserError if it is no capture.

    The file is asked and not the last report: that one ends with Blender.
    """
    settings = settings_of(scene)
    if not settings.capture or settings.collect.placed != settings.capture:
        return False
    if settings.collect.turned:
        return True
    capture = read_capture(Path(bpy.path.abspath(settings.capture)))
    return preflight.region_differs(scene, capture.bounds) or preflight.cameras_differ(scene, capture.views)


def job_options(settings: Any, resume: bool) -> tuple[str, ...]:
    """The artist's choices as the backend's command line has them."""
    return ("--preset", settings.preset, *(("--resume",) if resume else ()))
