# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which job's mesh the open file shows, and brings it there in small ticks.

A thread reads and converts the file; the tick only hands arrays to Blender. Previews that come while one is being read
are left out.
"""

from collections.abc import Iterable
from pathlib import Path

import bpy

from . import preview_colors, preview_object
from .blender_context import settings_of
from .jobs import JobWatch
from .preview_file import PreviewReader

READER = PreviewReader()


def tick(jobs: Iterable[tuple[JobWatch, bpy.types.Scene | None]]) -> bool:
    """Brings the preview up to date; says whether it has to be looked after. `jobs`: the latest last, with their
    scene of the open file."""
    target = wanted(jobs)
    done = READER.take()
    if target is None:
        hide()
        return False
    scene, path = target
    if bpy.app.is_job_running("RENDER") or preview_object.is_edited():  # a render reads the file in another thread
        return True
    if done is not None and done.path.parent == path.parent:
        preview_object.show(done, scene)
        preview_colors.switch_on(scene)
    current = Path(preview_object.shown())
    if current != path:
        if current.parent != path.parent:  # it is of another job
            hide()
        READER.ask(path)
    return True


def wanted(jobs: Iterable[tuple[JobWatch, bpy.types.Scene | None]]) -> tuple[bpy.types.Scene, Path] | None:
    """The scene that shall show a preview, and its file: of the latest job at work, else of the latest that is not
    imported yet."""
    found = None
    for watch, scene in sorted(jobs, key=lambda job: job[0].active):
        path = watch.preview
        if scene is None or path is None or not watch.witnessed or not settings_of(scene).show_preview:
            continue
        if watch.status != "finished" or not is_imported(watch):
            found = scene, path
    return found


def is_imported(watch: JobWatch) -> bool:
    """Whether its result has been imported, by us or by hand. Undoing the import does not bring the preview back."""
    if not watch.imported:
        path = str(watch.result)
        watch.imported = any(block.get("unrender_result") == path for block in bpy.data.collections)
    return watch.imported


def hide() -> None:
    """Takes the preview out of the file."""
    if preview_object.remove():
        preview_colors.switch_back()
