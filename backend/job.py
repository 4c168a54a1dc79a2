# SPDX-License-Identifier: GPL-3.0-or-later
"""The job folder: the files through which a reconstruction and whoever watches it talk.

Standard library only; used by the backend, which writes events and obeys the control file, and by Blender, which does
the opposite. A job outlives the program that started it, and a folder synchronised from another machine reads the same.

    capture.json  settings.json  claim.json (the process at work)
    events.jsonl  one JSON object a line: started, progress, preview, warning, then one of finished, failed, stopped
    control.json  {"request": "pause" | "resume" | "stop" | "finish"}
    preview/      checkpoint/      result/      start_mesh.ply (where an artist gave one)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TextIO

from .errors import Stopped, UserError
from .job_folder import (
    REQUESTS,
    TERMINAL,
    Event,
    EventReader,
    JobFolder,
    JobState,
    Request,
    open_regular,
    read_request,
    read_settings,
    read_state,
    tail,
    write_request,
)
from .processes import Claim, peak_memory, write_atomically

__all__ = [
    "REQUESTS",
    "TERMINAL",
    "Event",
    "EventReader",
    "Job",
    "JobFolder",
    "JobState",
    "Request",
    "open_regular",
    "read_request",
    "read_settings",
    "read_state",
    "tail",
    "write_request",
]

CONTROL_POLL_SECONDS = 0.25
REPORT_SECONDS = 0.1
STARTING_STEPS = 4  # after a stage's first report; kernels compile and GPUs record in them: they tell no pace
FEWEST_SPANS, RECENT_SPANS = 5, 30  # between reports, from which a pace is told
HICCUP = 3.0  # times the usual seconds a step, beyond which a span's time does not count


class Job:
    """One run of a reconstruction in a job folder, used as a context manager.

    Entering claims the folder and writes `started`; leaving writes exactly one of `finished`, `failed`, `stopped`,
    whatever happened in between, and lets the exception go on. Safe to call from several threads.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], resume: bool = False) -> None:
        """Raises UserError on entering if the folder cannot be a job folder or is taken by a living process."""
        self.files = JobFolder(folder)
        self.folder = folder
        self.settings = settings
        self.resume = resume
        self.listeners: list[Callable[[Event], None]] = []
        self.paused_seconds = 0.0  # time spent paused, for schedules that count seconds
        self.finish_requested = False
        self._claim = Claim(self.files.claim)
        self._lock = threading.Lock()
        self._events: TextIO | None = None
        self._ended = False
        self._stop = False
        self._launched = float(os.environ.get("UNRENDER_LAUNCHED", time.time()))
        self._next_poll = 0.0
        self._next_report = 0.0
        self._next_refresh = 0.0
        self._last: Event = {}
        self._stage = ""
        self._pace = _Pace(0, 0.0)
        self._old_handlers: dict[int, Any] = {}

    def __enter__(self) -> Job:
        self._take_folder()
        try:
            self._begin()
        except OSError as error:
            self._claim.release()
            raise _unwritable(self.folder, error) from error
        self._catch_signals()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        try:
            if error is None:
                self._end("finished", result=self.files.result.name)
            elif isinstance(error, (Stopped, KeyboardInterrupt)):
                self._end("stopped")
            else:
                self._end("failed", message=str(error) or type(error).__name__, error=type(error).__name__)
        finally:
            with contextlib.suppress(OSError):
                self.files.control.unlink(missing_ok=True)
            self._claim.release()

    def report(
        self,
        stage: str,
        step: int,
        steps: int,
        psnr: float | None = None,
        seconds_left: float | None = None,
        **more: Any,
    ) -> None:
        """Say how far the job is. Call it every step: it writes at most ten lines a second.

        `seconds_left` for the whole job; without it the time left in this stage is told as soon as its pace is known.
        """
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._pace = stage, _Pace(step, now)
            self._next_report = 0.0
        if now < self._next_report and step < steps:
            return
        self._next_report = now + REPORT_SECONDS
        if now >= self._next_refresh:
            self._next_refresh = now + 60.0
            self._claim.refresh()
        self._pace.reach(step, now)
        if seconds_left is None:
            seconds_left = self._pace.seconds_of(max(steps - step, 0))
        self._last = {"stage": stage, "step": step, "steps": steps, **more}
        if psnr is not None:
            self._last["psnr"] = round(float(psnr), 3)
        if seconds_left is not None:
            self._last["seconds_left"] = round(float(seconds_left), 1)
        if memory := peak_memory():
            self._last["memory_bytes"] = memory
        self._write("progress", **self._last)

    def preview(self, file: Path) -> None:
        """Announce a preview file, which must be complete and stand inside the job folder."""
        self._write("preview", file=file.relative_to(self.folder).as_posix())

    def warning(self, message: str) -> None:
        """Tell the user about something that is not quite right but does not end the job."""
        self._write("warning", message=" ".join(message.split()))

    def should_stop(self) -> bool:
        """Obey the control file: raises Stopped, waits while paused, else returns False.

        Cheap enough for every step: it looks at the file at most four times a second.
        """
        if self._stop:
            raise Stopped("stopped by the user")
        now = time.monotonic()
        if now < self._next_poll:
            return False
        self._next_poll = now + CONTROL_POLL_SECONDS
        request = self._request()
        if request == "pause":
            self._wait_while_paused()
        elif request == "stop":
            raise Stopped("stopped by the user")
        return False

    def stop(self) -> None:
        """Make the next `should_stop` raise Stopped."""
        self._stop = True

    def stop_when_stdin_closes(self) -> None:
        """Stop when the parent, which holds the other end of our standard input, ends. Off unless asked for."""

        def watch() -> None:
            # Raw reads: a thread blocked in sys.stdin's buffer would hold its lock when the interpreter shuts down.
            with contextlib.suppress(OSError):
                while os.read(0, 4096):
                    pass
            self.stop()

        threading.Thread(target=watch, name="stdin-watch", daemon=True).start()

    def _request(self) -> Request | None:
        request, _ = read_request(self.folder)
        if request == "finish":
            self.finish_requested = True
        return request

    def _wait_while_paused(self) -> None:
        began = time.monotonic()
        self._write("progress", **{**self._last, "paused": True})
        try:
            while (request := self._request()) == "pause":
                if self._stop:
                    raise Stopped("stopped by the user")
                self._claim.refresh()
                time.sleep(CONTROL_POLL_SECONDS)
        finally:
            paused = time.monotonic() - began
            self.paused_seconds += paused
            self._pace.leave_out(paused)
        if request == "stop":
            raise Stopped("stopped by the user")
        self._write("progress", **self._last)

    def _take_folder(self) -> None:
        where = str(self.folder)
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise UserError("not a folder", where=where, remedy="Choose another output folder.")
            if self.folder.is_dir() and any(self.folder.iterdir()) and not self.files.is_job():
                raise UserError(
                    "the output folder holds other files",
                    where=where,
                    expected="a new or empty folder, or that of an earlier job",
                    remedy="Choose another --out.",
                )
            if self.resume and not self.files.checkpoint.is_dir():
                raise UserError("nothing to resume: no checkpoint here", where=where, remedy="Leave out --resume.")
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._claim.take():
                raise UserError(
                    f"another job is at work here (process {self._claim.owner()})",
                    where=where,
                    remedy="Wait for it, stop it, or choose another --out.",
                )
            self.files.preview.mkdir(exist_ok=True)
        except OSError as error:
            self._claim.release()
            raise _unwritable(self.folder, error) from error

    def _begin(self) -> None:
        write_atomically(self.files.settings, json.dumps(self.settings, indent=2) + "\n")
        if read_request(self.folder)[1] < self._launched:
            self.files.control.unlink(missing_ok=True)  # asked of an earlier run
        self._events = open(self.files.events, "w", encoding="utf-8")
        self._write("started", run=uuid.uuid4().hex, pid=os.getpid(), resume=self.resume)

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True
            if sys.stderr.isatty():
                print("\nStopping after this step; press Ctrl-C again to stop at once.", file=sys.stderr)

        for number in (signal.SIGINT, signal.SIGTERM):
            self._old_handlers[number] = signal.signal(number, handle)

    def _write(self, kind: str, **values: Any) -> None:
        event = {"event": kind, "time": round(time.time(), 3), **values}
        with self._lock:
            if self._ended or self._events is None:
                return
            self._ended = kind in TERMINAL
            # Clean numbers only: NaN is not JSON, and a reader in another language would refuse the line.
            event = {key: None if value != value else value for key, value in event.items()}
            self._events.write(json.dumps(event, default=str) + "\n")
            self._events.flush()
        for listener in self.listeners:
            listener(event)

    def _end(self, kind: str, **values: Any) -> None:
        try:
            self._write(kind, **values)
        except OSError:
            if kind == "finished":
                raise
            # The disk may be full, which may be why we fail: the error itself matters more.
        finally:
            if self._events is not None:
                with contextlib.suppress(OSError):
                    self._events.close()


class _Pace:
    """How fast a stage goes at present, judged by when its last reports came.

    Neither the first steps nor a hiccup later on (another recording, a computer that slept) say much of what is to
    come; a lasting change does, after some reports.
    """

    def __init__(self, step: int, now: float) -> None:
        self._first = self._step = step
        self._time = now
        self._spans: deque[tuple[int, float]] = deque(maxlen=RECENT_SPANS)  # steps and seconds between reports

    def reach(self, step: int, now: float) -> None:
        """Take note of a report."""
        if step <= self._step:
            return
        if self._step >= self._first + STARTING_STEPS:
            self._spans.append((step - self._step, now - self._time))
        self._step, self._time = step, now

    def leave_out(self, seconds: float) -> None:
        """Not to count time in which the job was paused."""
        self._time += seconds

    def seconds_of(self, steps: int) -> float | None:
        """What `steps` more will take; None before there is anything to tell it from."""
        spans = self._spans
        if len(spans) < FEWEST_SPANS:
            return None
        usual = sorted(seconds / done for done, seconds in spans)[len(spans) // 2]
        counted = sum(min(seconds, HICCUP * usual * done) for done, seconds in spans)
        return steps * counted / sum(done for done, _ in spans)


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write here ({error.strerror or error})",
        where=str(folder),
        remedy="Choose another output folder, or make room and give yourself the right to write.",
    )
