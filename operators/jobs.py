# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a reconstruction as a process of its own and following what it writes (no bpy).

A job belongs to its folder, not to us: it goes on when Blender closes, and whoever opens the folder again finds it. So
nothing is asked of the process except whether it still lives; everything else is read from files.
"""

import contextlib
import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..backend.errors import UserError
from ..backend.job import Event, EventReader, JobFolder, JobState, Request, write_request
from . import job_process
from .job_text import clip, last_line
from .psnr_curve import PsnrCurve

Status = Literal["none", "starting", "running", "paused", "finished", "failed", "stopped", "died"]
ACTIVE: tuple[Status, ...] = ("starting", "running", "paused")

BYTES_PER_POLL = 1 << 18  # parsed in about 3 ms
ALIVE_CHECK_SECONDS = 2.0  # a process listing on macOS costs tens of milliseconds
PATIENCE_SECONDS = 15.0  # after which a request counts as not heard
KEPT_WARNINGS = 20
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
        self.said = ""  # the last line of its log, while it has no events to tell
        self.asked: Request | None = None  # what the artist asked for and the job has not yet answered
        self.curve = PsnrCurve()
        self.import_wanted = False
        self.imported = False
        self.witnessed = process is not None  # whether it was seen at work, and not only what it left
        self.lost = False  # whether it ended while no Blender looked
        self._last_psnr: float | None = None
        self._launched = launched
        self._reader = EventReader(folder)
        self._state = JobState()
        self._next_alive_check = 0.0
        self._heard = self._asked_at = time.monotonic()

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
    def has_result(self) -> bool:
        """Whether there is something to import: a job that died may have finished its result before."""
        return self.status == "finished" or (self.status == "died" and (self.result / "asset.glb").is_file())

    @property
    def preview(self) -> Path | None:
        """The latest mesh it showed. Only the name is taken from the event: nothing outside the job's own folder."""
        name = self._state.preview.replace("\\", "/").rpartition("/")[2]
        plain = len(name) < 200 and name.endswith(".ply") and name.isprintable()
        return JobFolder(self.folder).preview / name if plain else None

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
        """The last one reported: stages without steps have none."""
        psnr = self._number("psnr")
        return self._last_psnr if psnr is None else psnr

    @property
    def seconds_left(self) -> float | None:
        return self._number("seconds_left")

    @property
    def memory(self) -> float | None:
        """The most memory that it has used, bytes; None where its reports do not say."""
        return self._number("memory_bytes")

    @property
    def can_resume(self) -> bool:
        return not self.active and JobFolder(self.folder).checkpoint.is_dir()

    @property
    def silent_seconds(self) -> float:
        """How long a running job has said nothing; 0 while it has no reason to speak."""
        return time.monotonic() - self._heard if self.status == "running" else 0.0

    @property
    def deaf(self) -> bool:
        """Whether it has been asked to stop in vain, or is too young to hear: then its process can be ended."""
        waited = time.monotonic() - self._asked_at
        return self.status == "starting" or (self.active and self.asked == "stop" and waited > PATIENCE_SECONDS)

    @property
    def behind(self) -> bool:
        """Whether the job had written more than the last `poll` could read."""
        return not self._reader.at_end

    def poll(self) -> bool:
        """Reads a bounded piece of what the job wrote since the last call; says whether anything changed."""
        before = (self.status, self.message, self.said, self.deaf)
        now = time.monotonic()
        # Asked before reading: what a process that ends meanwhile has written last is then read as well.
        ended = self._has_ended() if now >= self._next_alive_check else None
        events = self._read()
        if events:
            self._heard = now
        if ended is not None:
            self._next_alive_check = now + ALIVE_CHECK_SECONDS
            self.said = last_line(self.log) if self.status == "starting" else ""
            if ended and not events and self._reader.at_end:
                self._note_end()
            elif ended:
                self._next_alive_check = 0.0  # there is more to read first
        return bool(events) or (self.status, self.message, self.said, self.deaf) != before

    def request(self, request: Request) -> None:
        """Asks the job to pause, resume, stop or finish early. Raises UserError where its folder cannot be written."""
        try:
            write_request(self.folder, request)
        except OSError as error:
            raise UserError(
                "cannot tell the job", where=str(self.folder), found=error.strerror or str(error)
            ) from error
        self.asked = request
        self._asked_at = time.monotonic()

    def end_process(self) -> None:
        """Ends a job that does not listen. Raises UserError where its process is not ours to end."""
        pid = self.process.pid if self.process is not None and self.process.poll() is None else 0
        pid = pid or job_process.pid_here(self.folder)
        if not pid:
            raise UserError(
                "its process is not on this machine, or has ended already",
                where=str(self.folder),
                remedy="End it where it runs.",
            )
        job_process.end(pid)
        self.asked = "stop"
        self._next_alive_check = 0.0

    def _read(self) -> int:
        """Applies new events; how many there were, those of earlier runs included."""
        events = self._reader.poll(BYTES_PER_POLL)
        for event in events:
            if self._launched and not _at_least(event.get("time"), self._launched):
                continue
            self._apply(event)
        return len(events)

    def _apply(self, event: Event) -> None:
        self._state.apply(event)
        del self._state.warnings[:-KEPT_WARNINGS]
        if event["event"] == "started":
            self.curve, self._last_psnr = PsnrCurve(), None
        elif event["event"] == "progress" and (psnr := self._number("psnr")) is not None:
            self.curve.add(psnr)
            self._last_psnr = psnr
        if self._state.status != "none":
            self.status = self._state.status
            self.message = clip(self._state.message)
        if self.asked and self._answers(self.asked):
            self.asked = None

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
        stopped = code == _EXIT_STOPPED or self.asked == "stop"
        began = self.status != "starting"
        self.asked = None
        if stopped:
            self.status, self.message = "stopped", ""
            return
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
    wants for itself. Raises UserError when it cannot be started.
    """
    launched = time.time()
    command = [*python, "-m", "backend", "reconstruct", str(capture), "--out", str(folder), *options]
    process = job_process.start(command, root, log, {"UNRENDER_LAUNCHED": repr(launched), **(environ or {})})
    return JobWatch(folder, process, launched, log)


def _at_least(value: Any, threshold: float) -> bool:
    return isinstance(value, (int, float)) and value >= threshold - 1e-3  # events carry milliseconds
