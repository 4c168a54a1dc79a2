# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue in this Blender: what waits, as the panel shows it, and starting the next one."""

from pathlib import Path

import bpy

from ..backend.errors import UserError
from . import jobs, queue_files
from .backend_program import program
from .install_state import choices, environ
from .job_places import log_file, python, queue_folder, waiting
from .jobs import JobWatch
from .queue_files import Entry

WAITING: list[Entry] = []  # as last read: panels are drawn more often than a folder should be read

_held = False


def refresh() -> None:
    """Reads again what waits; other Blenders write there too."""
    WAITING[:] = waiting()


def is_held() -> bool:
    """Whether the queue was found from an earlier Blender, and waits for the artist to start it."""
    return _held and bool(WAITING)


def hold(held: bool) -> None:
    global _held
    _held = held


def holds(folder: Path) -> bool:
    """Whether a job waits, as far as was read last."""
    return any(entry.folder == str(folder) for entry in WAITING)


def is_promised(folder: Path) -> bool:
    """Whether a waiting reconstruction will go to a folder, by what any Blender has written."""
    refresh()
    return holds(folder)


def add(entry: Entry) -> None:
    """Puts a reconstruction at the end of the queue, which goes on from now on. Raises UserError where that cannot be
    written down."""
    queue = queue_folder()
    if queue is None:
        raise UserError("there is no place for a queue", remedy="Wait until the running reconstruction has ended.")
    queue_files.add(queue, entry)
    hold(False)
    refresh()


def find(name: str) -> Entry | None:
    """What waits under a name."""
    return next((entry for entry in WAITING if entry.name == name), None)


def move(entry: Entry, up: bool) -> None:
    """Lets a reconstruction change places with its neighbor. Raises UserError where that cannot be written down."""
    if queue := queue_folder():
        queue_files.move(queue, entry, up)
    refresh()


def remove(entry: Entry) -> None:
    """Takes a reconstruction out of the queue."""
    if queue := queue_folder():
        queue_files.remove(queue, entry)
    refresh()


def start_waiting(entry: Entry) -> JobWatch | None:
    """Starts a reconstruction that waits, or says in the job why it could not; None if another Blender has it."""
    queue = queue_folder()
    if queue is None or not queue_files.take(queue, entry):
        refresh()
        return None
    try:
        watch = launch(entry)
    except UserError as error:
        watch = JobWatch(Path(entry.folder))
        watch.status, watch.message = "failed", str(error)
    queue_files.remove_taken(queue, entry)
    refresh()
    return watch


def launch(entry: Entry) -> JobWatch:
    """Starts a reconstruction now. Raises UserError where it cannot be started."""
    folder = Path(entry.folder)
    context = bpy.context
    watch = jobs.launch(
        python(context),
        program(choices().base),
        Path(entry.capture),
        folder,
        log_file(folder),
        entry.options,
        environ(context),
    )
    watch.import_wanted = entry.import_wanted
    return watch
