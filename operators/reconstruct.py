# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts a reconstruction in the background, and passes on what the artist asks of it."""

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from .. import __package__ as base_package
from ..backend.errors import UserError
from ..backend.job import JobFolder, read_settings
from . import follow, jobs
from .blender_context import scene_of, settings_of

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


class UNRENDER_OT_reconstruct(bpy.types.Operator):
    """Reconstruct the capture in the background, from minutes to an hour by preset and machine; Blender stays free.
    The first time it also downloads the packages it needs, about 1 GB or more"""

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

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        scene = scene_of(context)
        settings = settings_of(scene)
        capture = Path(bpy.path.abspath(settings.capture))
        previous = follow.job_of(scene)
        try:
            folder = previous.folder if self.resume and previous else job_folder(scene, capture)
            if JobFolder(folder).running_pid():
                raise UserError(
                    "a reconstruction is at work there already", where=str(folder), remedy="Wait for it or stop it."
                )
            options = ["--preset", settings.preset, *(["--resume"] if self.resume else [])]
            watch = jobs.launch(
                python(context), Path(__file__).parents[1], capture, folder, log_file(folder), options, environ(context)
            )
        except UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        watch.import_wanted = settings.import_when_finished
        settings.job_folder = str(folder)
        follow.follow(watch)
        self.report({"INFO"}, f"Reconstructing in {folder}")
        return {"FINISHED"}


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
        settings = settings_of(scene_of(context))
        settings.job_folder = str(folder)
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
    watch = follow.job_of(scene)
    if watch is not None and watch.active:
        return "A reconstruction is running. Wait for it, finish or stop it first."
    return ""


def preferences(context: bpy.types.Context) -> Any:
    """Our preferences (panels.preferences), None where the add-on is not enabled as one."""
    addon = context.preferences.addons.get(base_package)
    return addon.preferences if addon else None


def job_folder(scene: bpy.types.Scene, capture: Path) -> Path:
    """Where the job goes: what the artist chose, else a new folder in the default place or beside the blend file."""
    chosen = settings_of(scene).output
    if chosen:
        return Path(bpy.path.abspath(chosen))
    default = getattr(preferences(bpy.context), "jobs_folder", "")
    if default:
        parent = Path(bpy.path.abspath(default))
    elif bpy.data.filepath:
        parent = Path(bpy.data.filepath).parent / "unrender"
    else:
        parent = user_folder("results")
    name = (capture.stem if capture.is_file() else capture.name) or "capture"
    number = 1
    while (folder := parent / (name if number == 1 else f"{name}_{number}")).exists():
        number += 1
    return folder


def log_file(folder: Path) -> Path:
    """Where the process's own words go: outside the job folder, which the job wants empty or its own."""
    return user_folder("logs") / f"{folder.name}.log"


def user_folder(name: str) -> Path:
    """A folder of the add-on's own in the user's Blender data, which upgrades leave alone."""
    return Path(bpy.utils.extension_path_user(base_package, path=name, create=True))


def python(context: bpy.types.Context) -> list[str]:
    """The interpreter that starts the backend: the preference, else the one that Blender ships."""
    override = str(getattr(preferences(context), "python", "")).strip()
    if override:
        return [bpy.path.abspath(override)]
    if Path(sys.executable).name.lower().startswith("python"):
        return [sys.executable]
    # Some builds report Blender's own program instead.
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    folder = Path(sys.prefix) / ("" if sys.platform == "win32" else "bin")
    names = ("python.exe",) if sys.platform == "win32" else (f"python{version}", "python3", "python")
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise UserError(
            "Blender's own Python was not found",
            where=str(folder),
            expected=" or ".join(names),
            found=sysconfig.get_platform(),
            remedy="Set 'Backend Python' in the add-on's preferences to a Python 3.11 or newer.",
        )
    return [str(found[0])]


def environ(context: bpy.types.Context) -> dict[str, str]:
    """What the preferences add to the backend's environment variables."""
    chosen = {"UNRENDER_HOME": "home", "UNRENDER_PYTHON": "python"}
    values = {name: str(getattr(preferences(context), key, "")).strip() for name, key in chosen.items()}
    return {name: bpy.path.abspath(value) for name, value in values.items() if value}
