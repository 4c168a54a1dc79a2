# SPDX-License-Identifier: GPL-3.0-or-later
"""Which jobs belong to which scene of the open file: written in the scene, so that opening the file finds them.

Undo takes a scene back to what it was, but a job that runs is not undone: its link is put back.
"""

from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from .blender_context import settings_of

MOST_JOBS = 20  # of one scene; older ones are forgotten

_links: dict[int, tuple[str, list[str]]] = {}  # a scene's session_uid -> the job it shows, all its jobs; during an undo


def add(scene: bpy.types.Scene, folder: Path) -> None:
    """The scene's latest job, which it shows from now on."""
    settings = settings_of(scene)
    settings.job_folder = str(folder)
    _write(scene, [*(job for job in _read(scene) if job != str(folder)), str(folder)][-MOST_JOBS:])


def discard(folder: Path) -> None:
    """Nothing is to be expected of a job any more, in any scene. One that ended is still shown if it was the latest."""
    for scene in bpy.data.scenes:
        if folder in folders(scene):
            _write(scene, [job for job in _read(scene) if _path(job) != folder])


def withdraw(folder: Path) -> None:
    """A job that never began: scenes show the one before it again."""
    discard(folder)
    for scene in bpy.data.scenes:
        if current(scene) == folder:
            settings_of(scene).job_folder = (_read(scene) or [""])[-1]


def current(scene: bpy.types.Scene) -> Path | None:
    """The folder of the job that a scene shows."""
    return _path(settings_of(scene).job_folder)


def folders(scene: bpy.types.Scene) -> list[Path]:
    """All jobs of a scene, the one it shows last."""
    shown = current(scene)
    found = [path for job in _read(scene) if (path := _path(job)) is not None and path != shown]
    return found if shown is None else [*found, shown]


def scene_of_job(folder: Path) -> bpy.types.Scene | None:
    """The scene of the open file that a job belongs to."""
    return next((scene for scene in bpy.data.scenes if folder in folders(scene)), None)


@persistent
def before_undo(*_: object) -> None:
    """Notes the links."""
    _links.clear()
    for scene in bpy.data.scenes:
        _links[scene.session_uid] = settings_of(scene).job_folder, _read(scene)


@persistent
def after_undo(*_: object) -> None:
    """Puts the links back."""
    for scene in bpy.data.scenes:
        shown, jobs = _links.get(scene.session_uid, ("", []))
        if shown and settings_of(scene).job_folder != shown:
            settings_of(scene).job_folder = shown
        if jobs and _read(scene) != jobs:
            _write(scene, jobs)


def register() -> None:
    for handlers in (bpy.app.handlers.undo_pre, bpy.app.handlers.redo_pre):
        handlers.append(before_undo)
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        handlers.append(after_undo)


def unregister() -> None:
    for handlers in (bpy.app.handlers.undo_pre, bpy.app.handlers.redo_pre):
        handlers.remove(before_undo)
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        handlers.remove(after_undo)


def _path(job: str) -> Path | None:
    return Path(bpy.path.abspath(job)) if job else None


def _read(scene: bpy.types.Scene) -> list[str]:
    return [job.folder for job in settings_of(scene).jobs]


def _write(scene: bpy.types.Scene, jobs: list[str]) -> None:
    collection = settings_of(scene).jobs
    collection.clear()
    for job in jobs:
        collection.add().folder = job
