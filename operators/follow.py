# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs that this Blender knows of, and the timer that keeps them up to date.

Not a modal operator: loading a file would end that. `pump` is an ordinary function, so that tests can call it where
timers never fire. What is known lives here, in Python, and so survives loading files and undo; scenes only hold the
path of their job's folder, by which it is found again.
"""

import time
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from .. import __package__ as base_package
from ..backend.errors import UserError
from ..backend.job import JobFolder
from . import jobs
from .blender_context import settings_of, windows
from .jobs import JobWatch

WATCHES: dict[Path, JobWatch] = {}

TICK_SECONDS = 0.25
BUSY_TICK_SECONDS = 0.02  # while there is a backlog of events to read
TICK_BUDGET_SECONDS = 0.01  # for all jobs together, so that drawing never waits


def pump() -> float | None:
    """One tick of the timer: reads what jobs wrote, imports what was finished. Returns the seconds to the next one, or
    None when no job needs following."""
    deadline = time.perf_counter() + TICK_BUDGET_SECONDS
    changed = backlog = False
    for watch in list(WATCHES.values()):
        if time.perf_counter() > deadline:
            backlog = True
            break
        if watch.poll():
            changed = backlog = True
            if not watch.active and (register := _job_register()):
                jobs.forget(register, watch.folder)
        if watch.status == "finished" and watch.import_wanted and not bpy.app.is_job_running("RENDER"):
            watch.import_wanted = False  # once, whatever comes of it, and also if the artist undoes it
            import_finished(watch)
            changed = True
    if changed:
        redraw()
    if all(watch.settled and not (watch.status == "finished" and watch.import_wanted) for watch in WATCHES.values()):
        return None
    return BUSY_TICK_SECONDS if backlog else TICK_SECONDS


def follow(watch: JobWatch) -> None:
    """Takes a job in and makes sure that the timer runs."""
    WATCHES.pop(watch.folder, None)
    WATCHES[watch.folder] = watch  # the latest is last
    if watch.active and (register := _job_register()):
        jobs.remember(register, watch.folder)
    wake()


def attach(folder: Path) -> JobWatch | None:
    """The job in a folder, found again; None if no job was ever there."""
    if folder in WATCHES:
        return WATCHES[folder]
    if not JobFolder(folder).is_job():
        return None
    watch = JobWatch(folder)
    follow(watch)
    return watch


def wake() -> None:
    """Starts the timer unless it runs."""
    if not bpy.app.timers.is_registered(pump):
        bpy.app.timers.register(pump, first_interval=BUSY_TICK_SECONDS, persistent=True)


def job_of(scene: bpy.types.Scene | None) -> JobWatch | None:
    """The job to show beside a scene: its own, else the latest still at work (started before an undo or file load)."""
    own = WATCHES.get(folder) if scene is not None and (folder := _folder_of(scene)) is not None else None
    if own is not None:
        return own
    return next((watch for watch in reversed(WATCHES.values()) if watch.active), None)


def scene_of(watch: JobWatch) -> bpy.types.Scene | None:
    """The scene of the open file that the job belongs to."""
    for scene in bpy.data.scenes:
        if _folder_of(scene) == watch.folder:
            return scene
    return None


def _folder_of(scene: bpy.types.Scene) -> Path | None:
    """The job folder that a scene names."""
    path = settings_of(scene).job_folder
    return Path(bpy.path.abspath(path)) if path else None


def redraw() -> None:
    """Asks every sidebar to draw again."""
    for window in windows():
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


def import_finished(watch: JobWatch) -> None:
    """Imports a job's result into the scene it was started from, as one undo step. Says in the job's message if not."""
    scene = scene_of(watch)
    if scene is None:
        watch.message = "Finished. Its scene is not open: import the result where you want it"
        return
    window = next((window for window in windows() if window.scene == scene), None)
    context: dict[str, Any] = {"scene": scene} if window is None else {"window": window, "scene": scene}
    try:
        with bpy.context.temp_override(**context):
            ops: Any = bpy.ops  # what add-ons register is in no stub
            ops.unrender.import_result("EXEC_DEFAULT", True, directory=str(watch.result), capture=_capture(scene))
    except (RuntimeError, UserError) as error:  # an operator's error report arrives as RuntimeError
        watch.message = jobs.clip(str(error).removeprefix("Error: "))


def _capture(scene: bpy.types.Scene) -> str:
    return str(bpy.path.abspath(settings_of(scene).capture))


def _job_register() -> Path | None:
    """The folder of notes about running jobs, in the add-on's own writable place."""
    try:
        return Path(bpy.utils.extension_path_user(base_package, path="jobs", create=True))
    except (ValueError, OSError):  # not installed as an extension, or nowhere to write
        return None


@persistent
def on_load(*_: object) -> None:
    """After a file was opened: its scenes' jobs are followed again."""
    for scene in bpy.data.scenes:
        if (folder := _folder_of(scene)) is not None:
            attach(folder)


def find_jobs() -> None:
    """Once after start: jobs of the open file, and those that were at work when another Blender last looked."""
    on_load()
    register = _job_register()
    for folder in jobs.remembered(register) if register else []:
        attach(folder)


def register() -> None:
    bpy.app.handlers.load_post.append(on_load)
    # The open file may not be looked at while Blender enables add-ons at its start: do it when it is up.
    bpy.app.timers.register(find_jobs, first_interval=0.1, persistent=True)


def unregister() -> None:
    bpy.app.handlers.load_post.remove(on_load)
    for function in (pump, find_jobs):
        if bpy.app.timers.is_registered(function):
            bpy.app.timers.unregister(function)
    WATCHES.clear()  # the jobs themselves go on
