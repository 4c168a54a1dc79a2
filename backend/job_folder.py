# SPDX-License-Identifier: GPL-3.0-or-later
"""The job folder as files: where they stand, what they say, and how to follow a job from outside.

Standard library only. `backend.job` has the working side and offers everything here under its own name too.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from .processes import Claim, write_atomically

Request = Literal["pause", "resume", "stop", "finish"]
REQUESTS: tuple[Request, ...] = ("pause", "resume", "stop", "finish")
TERMINAL = ("finished", "failed", "stopped")

Event = dict[str, Any]


@dataclass(frozen=True)
class JobFolder:
    """Where things stand in a job folder. Creates nothing."""

    path: Path

    @property
    def capture(self) -> Path:
        return self.path / "capture.json"

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def control(self) -> Path:
        return self.path / "control.json"

    @property
    def claim(self) -> Path:
        return self.path / "claim.json"

    @property
    def preview(self) -> Path:
        return self.path / "preview"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def start_mesh(self) -> Path:
        return self.path / "start_mesh.ply"

    @property
    def result(self) -> Path:
        return self.path / "result"

    def is_job(self) -> bool:
        """Whether a job has ever been made here, or is about to be."""
        files = (self.capture, self.settings, self.events, self.control, self.claim, self.start_mesh)
        return any(path.exists() for path in files)

    def running_pid(self) -> int:
        """The id of the process that works here now, or 0."""
        return Claim(self.claim).owner()


def write_request(folder: Path, request: Request) -> None:
    """Ask the job in `folder` to pause, resume, stop or finish early; it obeys within a step or so."""
    write_atomically(JobFolder(folder).control, json.dumps({"request": request, "at": time.time()}) + "\n")


def read_request(folder: Path) -> tuple[Request | None, float]:
    """What was last asked of the job, and when (seconds since 1970). Garbage counts as nothing asked."""
    try:
        control = json.loads(JobFolder(folder).control.read_text(encoding="utf-8"))
        request, at = control.get("request"), float(control.get("at", time.time()))
    except (OSError, ValueError, TypeError, AttributeError):
        return None, 0.0
    return (request if request in REQUESTS else None), at


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the job's last run; empty if there are none to read."""
    try:
        settings = json.loads(JobFolder(folder).settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def open_regular(path: Path) -> BinaryIO:
    """A file of a job opened to read. Raises OSError for anything else that stands there, a pipe too, and never waits.

    Asking first what it is would not do: that can change before the opening.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a regular file", str(path))


class EventReader:
    """Reads a growing events.jsonl piece by piece: half-written lines wait, garbage lines are skipped.

    When a new run replaces the file, or something cuts it short, reading begins again at its `started` event.
    """

    def __init__(self, folder: Path) -> None:
        self.path = JobFolder(folder).events
        self.at_end = True  # whether the last `poll` came to the end of what there was
        self._offset = 0
        self._head = b""

    def poll(self, limit: int = 1 << 20) -> list[Event]:
        """The events written since the last call, reading at most `limit` bytes. Never waits, never raises."""
        self.at_end = True
        try:
            with open_regular(self.path) as file:
                head = file.read(256).partition(b"\n")[0]
                if not head.startswith(self._head) or file.seek(0, os.SEEK_END) < self._offset:
                    self._offset = 0
                self._head = head
                file.seek(self._offset)
                chunk = file.read(limit)
        except OSError:
            return []
        self.at_end = len(chunk) < limit
        whole, newline, _ = chunk.rpartition(b"\n")
        if not newline:
            if len(chunk) == limit:  # a line longer than that is garbage
                self._offset += limit
            return []
        self._offset += len(whole) + 1
        return [event for line in whole.split(b"\n") if (event := _parse(line)) is not None]


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):  # the latter for a line of ten thousand brackets
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


@dataclass
class JobState:
    """What a job folder says about its job, gathered from its events."""

    status: Literal["none", "running", "paused", "finished", "failed", "stopped", "died"] = "none"
    progress: Event = field(default_factory=dict)
    preview: str = ""
    warnings: list[str] = field(default_factory=list)
    message: str = ""  # why it failed
    result: str = ""

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        kind = event["event"]
        if kind == "started":
            self.__dict__.update(vars(JobState(status="running")))  # a new run: forget the old one
        elif kind == "progress":
            self.progress = event
            self.status = "paused" if event.get("paused") else "running"
        elif kind == "preview":
            self.preview = str(event.get("file", ""))
        elif kind == "warning":
            self.warnings.append(str(event.get("message", "")))
        elif kind in TERMINAL:
            self.status = kind
            self.message = str(event.get("message", ""))
            self.result = str(event.get("result", ""))


def read_state(folder: Path) -> JobState:
    """The state of the job in `folder` now; "died" if its process is gone without a last word."""
    state = JobState()
    reader = EventReader(folder)
    running = JobFolder(folder).running_pid()  # asked first: a job that ends meanwhile has written its last event
    while (events := reader.poll()) or not reader.at_end:
        for event in events:
            state.apply(event)
    if state.status in ("running", "paused") and not running:
        state.status = "died"
    return state


def tail(folder: Path, poll: float = 0.2) -> Iterator[Event]:
    """The events of a job as they come, until its last one or until its process is gone."""
    reader = EventReader(folder)
    while True:
        running = JobFolder(folder).running_pid()
        events = reader.poll()
        for event in events:
            yield event
            if event["event"] in TERMINAL:
                return
        if not running and not events and reader.at_end:
            return
        time.sleep(poll if reader.at_end else 0)
