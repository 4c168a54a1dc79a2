# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the backend's installation as panels show it, kept up to date by a thread and a timer.

`state` is what others call, in a panel's draw() too: it only hands out what was found last. What takes time (looking at
the environment, counting its size, removing it) runs in a thread that never touches Blender's data. `pump` is an
ordinary function, so that tests can call it where timers never fire; it survives loading files.
"""

import os
import threading
import time
from collections.abc import Callable

import bpy

from ..backend import disk
from ..backend.errors import UserError
from . import install_files, job_places, job_process
from .backend_program import program
from .blender_context import windows
from .install_files import Choices, InstallWatch, State

TICK_SECONDS = 0.25
LOOK_AGAIN_SECONDS = 3.0  # where others may install too: another Blender, the first reconstruction

OFFLINE = (
    "Online access is off. Turn on 'Allow Online Access' (Preferences, System, Network), or choose a 'Wheels Folder'."
)


class _Known:
    """What this Blender knows."""

    def __init__(self) -> None:
        self.state = State()
        self.watch: InstallWatch | None = None
        self.failure = ""  # of the last thing that was asked for
        self.removing = False
        self.thread: threading.Thread | None = None
        self.again = False  # whether to look once more when the thread has ended
        self.changed = False
        self.next_look = 0.0


_known = _Known()


def state() -> State:
    """The backend's state, found earlier: cheap, for draw() and poll()."""
    known = _known
    if known.watch is not None:
        return known.watch.shown(known.state)
    if known.removing:
        return State(status="removing", folder=known.state.folder)
    return known.state


def failure() -> str:
    """Why the last thing that was asked for failed, "" if it did not."""
    return _known.failure


def choices() -> Choices:
    """What the preferences say."""
    chosen = {**os.environ, **job_places.environ(bpy.context)}
    return Choices(chosen.get("UNRENDER_HOME", ""), chosen.get("UNRENDER_PYTHON", ""))


def environ(context: bpy.types.Context) -> dict[str, str]:
    """Environment variables that tell a process of the backend where packages come from, and whether it may ask."""
    preferences = job_places.preferences(context)
    wheels = str(getattr(preferences, "wheels", "")).strip()
    index = str(getattr(preferences, "torch_index", "")).strip()
    found = job_places.environ(context)
    if wheels:
        found["UNRENDER_WHEELS"] = str(bpy.path.abspath(wheels))
    if index:
        found["UNRENDER_TORCH_INDEX"] = index
    if not bpy.app.online_access and not wheels:
        found["UNRENDER_OFFLINE"] = "1"
    return found


def why_no_download(context: bpy.types.Context) -> str:
    """Why packages cannot be had now, in a sentence for the artist; "" if they can."""
    wheels = str(getattr(job_places.preferences(context), "wheels", "")).strip()
    return "" if wheels or bpy.app.online_access else OFFLINE


def start(context: bpy.types.Context, *options: str) -> None:
    """Run the backend's `install` in the background. Raises UserError where it cannot be started."""
    chosen = choices()
    _known.failure = ""
    since = time.time()
    command = [*job_places.python(context), "-m", "backend", "install", "--events", str(chosen.events), *options]
    variables = {**environ(context), "UNRENDER_LAUNCHED": repr(since)}
    process = job_process.start(command, program(chosen.base), chosen.log, variables)
    _known.watch = InstallWatch(chosen, process, since)
    wake()


def can_stop() -> bool:
    """Whether there is an installation of which we have the reins."""
    return _known.watch is not None and not _known.watch.stopping


def stop() -> None:
    """Ask the installation to stop. Raises UserError."""
    if _known.watch is not None:
        _known.watch.stop()


def remove(only_others: bool) -> None:
    """Remove what was installed, in a thread."""
    known, chosen = _known, choices()
    found = known.state

    def work() -> None:
        try:
            disk.remove(install_files.removable(found, chosen, only_others))
        except UserError as error:
            known.failure = str(error)
        finally:
            known.removing = False

    known.failure = ""
    known.removing = True
    _run(work)


def refresh() -> None:
    """Look again, in a thread: after anything that may have changed the backend, or where it is."""
    if _known.thread is not None and _known.thread.is_alive():
        _known.again = True
    else:
        _run(lambda: None)


def glance() -> None:
    """For draw(): look again, in a thread, where something may be installed of which nobody told us."""
    if _known.watch is None and _known.state.status in ("missing", "untested", "broken") and _is_due():
        refresh()


def _is_due() -> bool:
    due = time.monotonic() >= _known.next_look
    if due:
        _known.next_look = time.monotonic() + LOOK_AGAIN_SECONDS
    return due


def _run(work: Callable[[], None]) -> None:
    """Do something in a thread and then look at what is there."""
    known, chosen, previous = _known, choices(), _known.thread

    def run() -> None:
        if previous is not None:
            previous.join()
        work()
        found = install_files.running(chosen)
        if found is not None and known.watch is None:
            known.watch = found
        known.state = install_files.inspect(chosen)
        known.changed = True
        known.state = install_files.measured(known.state, chosen)
        known.changed = True

    known.thread = threading.Thread(target=run, name="unrender-install", daemon=True)
    known.thread.start()
    wake()


def pump() -> float | None:
    """One tick of the timer. Returns the seconds to the next one, or None when there is nothing to wait for."""
    known = _known
    if known.watch is not None and known.watch.poll():
        known.changed = True
        if not known.watch.active:
            known.failure = known.watch.message
            known.watch = None
            known.again = True
    working = known.thread is not None and known.thread.is_alive()
    foreign = known.watch is None and known.state.status == "installing"
    if not working and (known.again or (foreign and _is_due())):
        known.again = False
        _run(lambda: None)
        working = True
    if known.changed:
        known.changed = False
        _redraw()
    return TICK_SECONDS if working or foreign or known.watch is not None or known.again else None


def wake() -> None:
    """Start the timer unless it runs."""
    if not bpy.app.timers.is_registered(pump):
        bpy.app.timers.register(pump, first_interval=TICK_SECONDS, persistent=True)


def _redraw() -> None:
    """Ask the preferences and sidebars to draw again."""
    for window in windows():
        for area in window.screen.areas:
            if area.type in ("PREFERENCES", "VIEW_3D"):
                area.tag_redraw()


def register() -> None:
    # Preferences cannot be read while Blender enables add-ons at its start: look when it is up.
    bpy.app.timers.register(refresh, first_interval=0.2, persistent=True)


def unregister() -> None:
    global _known
    for function in (pump, refresh):
        if bpy.app.timers.is_registered(function):
            bpy.app.timers.unregister(function)
    _known = _Known()  # an installation goes on, and is found again
