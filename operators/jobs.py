# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a reconstruction as a process of its own and following what it writes (no bpy).

A job belongs to its folder, not to us: it goes on when Blender closes, and whoever opens the folder again finds it. So
nothing is asked of the process except whether it still lives; everything else is read from files.
"""

import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..backend.errors import UserError
from ..backend.job import EventReader, JobFolder, JobState, Request, write_request

Status = Literal["none", "starting", "running", "paused", "finished", "failed", "stopped", "died"]
ACTIVE: tuple[Status, ...] = ("starting", "running", "paused")

BYTES_PER_POLL = 1 << 18  # parsed in about 3 ms
ALIVE_CHECK_SECONDS = 2.0  # a process listing on macOS costs tens of milliseconds
KEPT_WARNINGS = 20
LONGEST_TEXT = 400  # a panel shows no more of one message
_EXIT_STOPPED = 130


class JobWatch:
    """What we know of one job, brought up to date by `poll`. Never waits, never raises for what a job may write."""

    def __init__(
        self,
        folder: Path,
        process: "subprocess.Popen[bytes] | None" = None,
        launched: float = 0.0,
        log: Path | None = None,
    ) -> None:
        """`process`: where we started it ourselves, at the time `launched`; events before that are another run's."""
        self.folder = folder
        self.process = process
        self.log = log
        self.status: Status = "starting" if process else "none"
        self.message = ""  # why it failed, or what else went wrong
        self.asked: Request | None = None  # what the artist asked for and the job has not yet answered
        self.import_wanted = False
        self._launched = launched
        self._reader = EventReader(folder)
        self._state = JobState()
        self._next_alive_check = 0.0

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to follow: it ended, and our process is reaped."""
        return not self.active and (self.process is None or self.process.poll() is not None)

    @property
    def result(self) -> Path:
        return JobFolder(self.folder).result

    @property
    def warnings(self) -> list[str]:
        return [clip(text) for text in self._state.warnings[-KEPT_WARNINGS:]]

    @property
    def stage(self) -> str:
        return clip(str(self._state.progress.get("stage", "")))

    @property
    def fraction(self) -> float:
        """How far the present stage is, 0 to 1."""
        step, steps = self._number("step"), self._number("steps")
        return min(max(step / steps, 0.0), 1.0) if step is not None and steps else 0.0

    @property
    def psnr(self) -> float | None:
        return self._number("psnr")

    @property
    def seconds_left(self) -> float | None:
        return self._number("seconds_left")

    @property
    def can_resume(self) -> bool:
        return not self.active and JobFolder(self.folder).checkpoint.is_dir()

    def poll(self) -> bool:
        """Reads a bounded piece of what the job wrote since the last call; says whether anything changed."""
        before = (self.status, self.message)
        now = time.monotonic()
        # Asked before reading: what a process that ends meanwhile has written last is then read as well.
        ended = self._has_ended() if now >= self._next_alive_check else None
        events = self._read()
        if ended is not None:
            self._next_alive_check = now + ALIVE_CHECK_SECONDS
            if ended and not events:
                self._note_end()
            elif ended:
                self._next_alive_check = 0.0  # there is more to read first
        return bool(events) or (self.status, self.message) != before

    def request(self, request: Request) -> None:
        """Asks the job to pause, resume, stop or finish early. Raises UserError where its folder cannot be written."""
        try:
            write_request(self.folder, request)
        except OSError as error:
            raise UserError(
                "cannot tell the job", where=str(self.folder), found=error.strerror or str(error)
            ) from error
        self.asked = request

    def _read(self) -> int:
        """Applies new events; how many lines there were, those of earlier runs included."""
        try:
            events = self._reader.poll(BYTES_PER_POLL)
        except RecursionError:  # a line of ten thousand brackets
            return 1
        for event in events:
            if self._launched and not _at_least(event.get("time"), self._launched):
                continue
            self._state.apply(event)
            del self._state.warnings[:-KEPT_WARNINGS]
            if self._state.status != "none":
                self.status = self._state.status
                self.message = clip(self._state.message)
            if self.asked and self._answers(self.asked):
                self.asked = None
        return len(events)

    def _answers(self, asked: Request) -> bool:
        return (
            self.status == ("paused" if asked == "pause" else "running")
            if asked in ("pause", "resume")
            else not self.active
        )

    def _has_ended(self) -> bool:
        if not self.active:
            return False
        if self.process is not None:
            return self.process.poll() is not None
        return not JobFolder(self.folder).running_pid()

    def _note_end(self) -> None:
        """Its process is gone without a last event: a crash, or a refusal before the job began."""
        code = self.process.returncode if self.process else None
        if code == _EXIT_STOPPED:
            self.status, self.message = "stopped", ""
            return
        began = self.status != "starting"
        self.status = "died" if began else "failed"
        said = last_line(self.log)
        ending = f"The reconstruction ended unexpectedly{f' (exit code {code})' if code is not None else ''}"
        self.message = clip(f"{ending}: {said}" if began and said else said or f"{ending}.")

    def _number(self, key: str) -> float | None:
        value = self._state.progress.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        with contextlib.suppress(OverflowError):
            return float(value) if math.isfinite(value) else None
        return None


def launch(
    python: Sequence[str],
    root: Path,
    capture: Path,
    folder: Path,
    log: Path,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> JobWatch:
    """Starts `PYTHON -m backend reconstruct CAPTURE --out FOLDER …` and returns at once.

    `root` holds the backend; `log` receives everything the process prints, and stands outside `folder`, which the job
    wants for itself. The process is in a session of its own: neither Ctrl-C on Blender's terminal nor Blender's end
    reach it. Raises UserError when it cannot be started.
    """
    launched = time.time()
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")}
    # No byte code: an extension's folder belongs to Blender, and may be read-only.
    own |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "UNRENDER_LAUNCHED": repr(launched)}
    own |= environ or {}
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    command = [*python, "-m", "backend", "reconstruct", str(capture), "--out", str(folder), *options]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command,
                cwd=root,
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **detached,
            )
    except OSError as error:
        raise UserError(
            "cannot start the reconstruction",
            where=str(python[0]),
            found=error.strerror or str(error),
            remedy="Check 'Backend Python' in the add-on's preferences.",
        ) from error
    return JobWatch(folder, process, launched, log)


def clip(text: str) -> str:
    """One line of bounded length."""
    text = " ".join(text[: 4 * LONGEST_TEXT].split())
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def last_line(log: Path | None) -> str:
    """The last line of a log that says something, "" if there is none. Reads only its end."""
    if log is None:
        return ""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return clip(next((line for line in reversed(lines) if line.strip()), ""))


def time_left(seconds: float) -> str:
    """For people: "25 s", "4 min", "2 h 10 min"."""
    if seconds < 60:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# ---- jobs that outlive Blender: one small file for each, so that several Blenders never write the same one


def remember(register: Path, folder: Path) -> None:
    """Notes that a job is at work, for the next Blender. A folder that cannot be written costs only the reminder."""
    with contextlib.suppress(OSError):
        register.mkdir(parents=True, exist_ok=True)
        _note(register, folder).write_text(json.dumps({"folder": str(folder)}), encoding="utf-8")


def forget(register: Path, folder: Path) -> None:
    with contextlib.suppress(OSError):
        _note(register, folder).unlink()


def remembered(register: Path) -> list[Path]:
    """The folders of jobs that were at work when a Blender last looked, as far as they still exist."""
    folders = []
    for note in sorted(register.glob("*.json")) if register.is_dir() else []:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            folders.append(Path(json.loads(note.read_text(encoding="utf-8"))["folder"]))
    return [folder for folder in folders if folder.is_dir()]


def _note(register: Path, folder: Path) -> Path:
    return register / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.json"


def _at_least(value: Any, threshold: float) -> bool:
    return isinstance(value, (int, float)) and value >= threshold - 1e-3  # events carry milliseconds
