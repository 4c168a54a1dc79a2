# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the backend's installation (no bpy): whether it is there, works, and what it takes on the disk.

`inspect` looks, which takes up to a second and belongs in a thread; `InstallWatch` follows an installation by the
events that it writes.
"""

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..backend import disk
from ..backend.environment import BACKEND, Environment, home, named_interpreter, own_python_note, read_json
from ..backend.errors import UserError
from ..backend.job import EventReader, JobFolder, JobState, read_state, write_request
from .backend_program import copies
from .job_text import clip, last_line

Status = Literal["checking", "missing", "installing", "untested", "ready", "broken", "removing"]

ALIVE_CHECK_SECONDS = 1.0
_EXIT_STOPPED = 130


@dataclass(frozen=True)
class Choices:
    """What the preferences say about where the backend is."""

    home: str = ""
    python: str = ""

    @property
    def base(self) -> Path:
        """The folder of environments, logs and caches."""
        return Path(self.home).expanduser().absolute() if self.home else home()

    @property
    def events(self) -> Path:
        """The job folder of installations."""
        return self.base / "install"

    @property
    def log(self) -> Path:
        """What the last installation said."""
        return self.base / "logs" / "install.log"


@dataclass(frozen=True)
class State:
    """What to show of the backend."""

    status: Status = "checking"
    reason: str = ""  # why it is broken, or why the last installation failed
    note: str = ""  # what could be better although it works
    device: str = ""  # what it runs on: a GPU's name, or "cpu"
    memory: int = 0  # bytes of the GPU
    torch: str = ""
    folder: Path | None = None
    own_python: bool = False  # an interpreter of the user's own, which is not ours to install, repair or remove
    size: int | None = None  # bytes on the disk, None before they are counted
    others: tuple[Path, ...] = ()  # environments of another Python, or of another version of ours
    others_size: int | None = None
    text: str = ""  # what is being installed
    testing: bool = False  # whether that is the self-test
    fraction: float = 0.0
    seconds_left: float | None = None

    @property
    def ready(self) -> bool:
        return self.status == "ready"


def inspect(choices: Choices) -> State:
    """Look at what is there. Reads files; runs nothing but an interpreter of the user's own."""
    if choices.python:
        return _own(choices)
    environment = Environment(BACKEND, base=choices.base)
    others = tuple(folder for folder in disk.environments(choices.base) if folder != environment.folder)
    state = State(folder=environment.folder, others=others)
    last = read_state(choices.events)
    failure = clip(last.message) if last.status in ("failed", "died") else ""
    defect = environment.defect()
    if environment.maker():
        return replace(state, status="installing", text="another process is installing it")
    if defect == "not there":
        return replace(state, status="missing", reason=failure)
    if defect:
        return replace(state, status="broken", reason=failure if defect == "not complete" and failure else defect)
    stamp = environment.stamp()
    found, test = _dictionary(stamp.get("check")), environment.self_test()
    state = replace(state, torch=str(found.get("torch", "")), note=clip(str(stamp.get("note", ""))))
    return _tested(state, {**found, **test} if test else {})


def _own(choices: Choices) -> State:
    state = State(own_python=True)
    try:
        python = named_interpreter(BACKEND, {BACKEND.variable: choices.python})
    except UserError as error:
        return replace(state, status="broken", reason=clip(str(error)))
    assert python is not None
    note = read_json(own_python_note(choices.base))
    return _tested(replace(state, folder=python), note if note.get("python") == str(python) else {})


def _tested(state: State, test: dict[str, Any]) -> State:
    """With what the self-test found."""
    if not test:
        return replace(state, status="untested")
    if not test.get("passed"):
        return replace(state, status="broken", reason=clip(f"the self-test failed: {test.get('reason', '')}"))
    memory = test.get("memory")
    return replace(
        state,
        status="ready",
        device=clip(str(test.get("device", ""))),
        memory=memory if isinstance(memory, int) else 0,
    )


def measured(state: State, choices: Choices) -> State:
    """The same with sizes on the disk, which takes up to some seconds to count."""
    if state.own_python or state.folder is None:
        return state
    size = disk.folder_size(state.folder) + disk.folder_size(disk.kernel_cache(choices.base))
    return replace(state, size=size, others_size=sum(map(disk.folder_size, state.others)))


def removable(state: State, choices: Choices, only_others: bool) -> list[Path]:
    """What Remove removes: everything that was installed, or the other environments alone."""
    if only_others or state.folder is None:
        return list(state.others)
    own = [state.folder, disk.kernel_cache(choices.base), copies(choices.base), choices.events]
    return [*own, *state.others]


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class InstallWatch:
    """An installation at work, brought up to date by `poll`. Never waits, never raises for what it may write."""

    def __init__(self, choices: Choices, process: "subprocess.Popen[bytes] | None" = None, since: float = 0.0) -> None:
        """`process`: where we started it ourselves, at the time `since`; earlier events are another run's."""
        self.choices = choices
        self.process = process
        self.active = True
        self.stopping = False
        self.message = ""  # why it failed
        self._since = since
        self._reader = EventReader(choices.events)
        self._state = JobState()
        self._next_alive_check = 0.0

    def poll(self) -> bool:
        """Read what is new; says whether anything changed."""
        if not self.active:
            return False
        ended = self._has_ended()  # asked before reading: what it writes last is then read as well
        events = [event for event in self._reader.poll() if _number(event.get("time")) >= self._since - 1e-3]
        for event in events:
            self._state.apply(event)
        if self._state.status in ("finished", "failed", "stopped"):
            self.active = False
            self.message = clip(self._state.message)
        elif ended:
            self.active = False
            code = self.process.returncode if self.process else None
            self.message = "" if code in (0, _EXIT_STOPPED) else last_line(self.choices.log) or "It ended unexpectedly."
        return bool(events) or not self.active

    def stop(self) -> None:
        """Ask it to stop. Raises UserError where its folder cannot be written."""
        try:
            write_request(self.choices.events, "stop")
        except OSError as error:
            raise UserError("cannot tell the installation", where=str(self.choices.events), found=str(error)) from error
        self.stopping = True

    def shown(self, state: State) -> State:
        """`state` with the progress of the installation."""
        progress = self._state.progress
        steps = _number(progress.get("steps"))
        return replace(
            state,
            status="installing",
            text="stopping" if self.stopping else clip(str(progress.get("text", "starting"))),
            testing=progress.get("stage") == "self-test",
            fraction=min(max(_number(progress.get("step")) / steps, 0.0), 1.0) if steps > 0 else 0.0,
            seconds_left=_number(progress["seconds_left"]) if "seconds_left" in progress else None,
        )

    def _has_ended(self) -> bool:
        if self.process is not None:
            return self.process.poll() is not None
        now = time.monotonic()
        if now < self._next_alive_check:
            return False
        self._next_alive_check = now + ALIVE_CHECK_SECONDS
        return not JobFolder(self.choices.events).running_pid()


def running(choices: Choices) -> InstallWatch | None:
    """An installation that is at work, started by another Blender or before this one was restarted."""
    return InstallWatch(choices) if JobFolder(choices.events).running_pid() else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < sys.maxsize else 0.0
