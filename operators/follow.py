# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs that this Blender knows of, and the timer that keeps them up to date.

Not a modal operator: loading a file would end that. `pump` is an ordinary function, so that tests can call it where
timers never fire. What is known lives here, in Python, and so survives loading files and undo; scenes only hold the
paths of their jobs' folders, by which they are found again.
"""

import time
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..backend.errors import UserError
from ..backend.job import JobFolder
from . import job_notes, preview_colors, previews, queue_jobs, scene_jobs
from .blender_context import settings_of, windows
from .job_places import register_folder
from .job_text import clip
from .jobs import JobWatch
from .queue_files import Entry

WATCHES: dict[Path, JobWatch] = {}

TICK_SECONDS = 0.25
BUSY_TICK_SECONDS = 0.02  # while there is a backlog of events to read
IDLE_TICK_SECONDS = 1.0  # while nothing happens, but something may
TICK_BUDGET_SECONDS = 0.01  # for the events of all jobs together, so that drawing never waits
FOLDER_CHECK_SECONDS = 2.0  # from one look at the files of the queue and of other Blenders to the next

_next_folder_check = 0.0


def pump() -> float | None:
    """One tick of the timer: reads what jobs wrote, shows their mesh, imports what was finished, starts what waits.
    Returns the seconds to the next one, or None when there is nothing to follow."""
    previewing = False
    backlog, changed = _poll()
    for watch in list(WATCHES.values()):
        if watch.status == "finished" and watch.import_wanted and not bpy.app.is_job_running("RENDER"):
            changed |= _import(watch)
    if not backlog:  # a tick that has read events does not also build a mesh
        previewing = previews.tick([(watch, scene_of(watch)) for watch in WATCHES.values()])
        changed |= _start_next()
    if changed:
        redraw()
    if backlog:
        return BUSY_TICK_SECONDS
    if not all(watch.settled for watch in WATCHES.values()):
        return TICK_SECONDS
    return IDLE_TICK_SECONDS if previewing or (queue_jobs.WAITING and not queue_jobs.is_held()) else None


def _poll() -> tuple[bool, bool]:
    """Reads what jobs wrote: whether there may be more at once, and whether anything is new."""
    deadline = time.perf_counter() + TICK_BUDGET_SECONDS
    backlog = changed = False
    for watch in list(WATCHES.values()):
        if time.perf_counter() > deadline:
            return True, changed
        if watch.poll():
            changed = True
            if not watch.active and (register := register_folder()):
                job_notes.forget(register, watch.folder)
        backlog |= watch.behind
    return backlog or changed, changed


def follow(watch: JobWatch) -> None:
    """Takes a job in and makes sure that the timer runs."""
    WATCHES.pop(watch.folder, None)
    WATCHES[watch.folder] = watch  # the latest is last
    if watch.active and (register := register_folder()):
        job_notes.remember(register, watch.folder)
    wake()


def attach(folder: Path) -> JobWatch | None:
    """The job in a folder, found again; None if no job was ever there."""
    if folder in WATCHES:
        return WATCHES[folder]
    if not JobFolder(folder).is_job():
        return None
    watch = JobWatch(folder)
    watch.witnessed = bool(JobFolder(folder).running_pid())
    scene = scene_of(watch)
    # What ended unseen is offered, not imported: it may have been before, and nobody expects it now.
    watch.import_wanted = watch.witnessed and scene is not None and settings_of(scene).import_when_finished
    follow(watch)
    return watch


def enqueue(entry: Entry) -> int:
    """Starts a reconstruction, or puts it into the queue while others are at work: how many come before it.

    Raises UserError where neither can be done.
    """
    queued = 0 if queue_jobs.is_held() else len(queue_jobs.WAITING)
    ahead = queued + sum(watch.active for watch in WATCHES.values())
    if not ahead and not busy_elsewhere():
        follow(queue_jobs.launch(entry))
        return 0
    queue_jobs.add(entry)
    wake()
    return max(ahead, 1)


def start_waiting(entry: Entry) -> None:
    """Starts a reconstruction of the queue, whatever else runs."""
    watch = queue_jobs.start_waiting(entry)
    if watch is not None:
        follow(watch)


def _start_next() -> bool:
    """Starts the next of the queue when its turn has come. Looks at the files now and then only."""
    global _next_folder_check
    now = time.monotonic()
    if now < _next_folder_check:
        return False
    _next_folder_check = now + FOLDER_CHECK_SECONDS
    before = list(queue_jobs.WAITING)
    queue_jobs.refresh()
    attach_scenes()  # another Blender may have started what waited here
    at_work = any(watch.active for watch in WATCHES.values())
    if queue_jobs.WAITING and not queue_jobs.is_held() and not at_work and not busy_elsewhere():
        start_waiting(queue_jobs.WAITING[0])
    return before != queue_jobs.WAITING


def busy_elsewhere() -> bool:
    """Whether a job is at work that another Blender has started."""
    register = register_folder()
    remembered = job_notes.remembered(register) if register else []
    return any(folder not in WATCHES and JobFolder(folder).running_pid() for folder in remembered)


def wake() -> None:
    """Starts the timer unless it runs."""
    global _next_folder_check
    _next_folder_check = 0.0
    if not bpy.app.timers.is_registered(pump):
        bpy.app.timers.register(pump, first_interval=BUSY_TICK_SECONDS, persistent=True)


def job_of(scene: bpy.types.Scene | None) -> JobWatch | None:
    """The job to show beside a scene: its own, else the latest still at work (started before a file was loaded), else
    one that ended while no Blender looked."""
    folders = scene_jobs.folders(scene) if scene is not None else []
    own = WATCHES.get(folders[-1]) if folders else None
    if own is not None:
        return own
    others = [watch for watch in reversed(WATCHES.values()) if watch.active]
    others.sort(key=lambda watch: watch.folder not in folders)
    others += [watch for watch in reversed(WATCHES.values()) if watch.lost and not previews.is_imported(watch)]
    return others[0] if others else None


def scene_of(watch: JobWatch) -> bpy.types.Scene | None:
    """The scene of the open file that the job belongs to."""
    return scene_jobs.scene_of_job(watch.folder)


def redraw() -> None:
    """Asks every sidebar to draw again."""
    for window in windows():
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


def _import(watch: JobWatch) -> bool:
    """Imports a job's result into the scene it was started from, as one undo step; says whether anything changed."""
    scene = scene_of(watch)
    if scene is None:
        waits = "Finished. It is imported when you open its scene again, or import it where you want it"
        changed, watch.message = watch.message != waits, waits
        return changed
    watch.import_wanted = False  # once, whatever comes of it, and also if the artist undoes it
    watch.message = ""
    previews.hide()  # the undo step shall not hold both
    try:
        # The scene by name, not by overriding the context: while a context is overridden, the end of an operator asks
        # Python for it without Python's lock, and Blender up to 5.0 crashes if another thread runs at that moment.
        ops: Any = bpy.ops  # what add-ons register is in no stub
        ops.unrender.import_result(
            "EXEC_DEFAULT", True, directory=str(watch.result), capture=_capture(scene), scene=scene.name
        )
        watch.imported = True
        scene_jobs.discard(watch.folder)
    except (RuntimeError, UserError) as error:  # an operator's error report arrives as RuntimeError
        watch.message = clip(str(error).removeprefix("Error: "))
    return True


def _capture(scene: bpy.types.Scene) -> str:
    return str(bpy.path.abspath(settings_of(scene).capture))


def attach_scenes() -> None:
    """Follows the jobs of the open file's scenes."""
    for scene in bpy.data.scenes:
        for folder in scene_jobs.folders(scene):
            attach(folder)


@persistent
def on_load(*_: object) -> None:
    """After a file was opened: its scenes' jobs are followed again, and imported if they ended meanwhile."""
    preview_colors.forget()
    attach_scenes()
    wake()


@persistent
def on_undo(*_: object) -> None:
    """After an undo, which may have brought an old preview back, or taken the present one away."""
    if WATCHES:
        wake()


def find_jobs() -> None:
    """Once after start: jobs of the open file, those that were at work when another Blender last looked, the queue."""
    on_load()
    register = register_folder()
    for folder in job_notes.remembered(register) if register else []:
        if (watch := attach(folder)) is not None:
            watch.lost = not watch.witnessed
    queue_jobs.refresh()
    # A queue whose work goes on goes on too; one that rests is not started by merely opening Blender.
    queue_jobs.hold(bool(queue_jobs.WAITING) and not any(watch.witnessed for watch in WATCHES.values()))


def register() -> None:
    scene_jobs.register()
    bpy.app.handlers.load_post.append(on_load)
    bpy.app.handlers.undo_post.append(on_undo)
    bpy.app.handlers.redo_post.append(on_undo)
    # The open file may not be looked at while Blender enables add-ons at its start: do it when it is up.
    bpy.app.timers.register(find_jobs, first_interval=0.1, persistent=True)


def unregister() -> None:
    previews.hide()
    bpy.app.handlers.load_post.remove(on_load)
    bpy.app.handlers.undo_post.remove(on_undo)
    bpy.app.handlers.redo_post.remove(on_undo)
    scene_jobs.unregister()
    for function in (pump, find_jobs):
        if bpy.app.timers.is_registered(function):
            bpy.app.timers.unregister(function)
    WATCHES.clear()  # the jobs themselves go on
