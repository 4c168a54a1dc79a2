# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line shows while it works: one living line on a terminal, now and then a plain line elsewhere.

Standard library only. Everything goes to stderr: stdout belongs to results.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import Any, TextIO

PLAIN_LINE_SECONDS = 10.0


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, "1:05", or with hours, "1:02:03"."""
    total = max(0, round(seconds))
    minutes, rest = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def megabytes(count: float) -> str:
    """A number of bytes in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def bar(fraction: float, width: int = 20) -> str:
    """A progress bar of ASCII characters."""
    full = min(width, max(0, int(fraction * width)))
    return f"[{'#' * full}{'.' * (width - full)}]"


class Console:
    """Shows the state of one or several tasks that run at once. Safe to call from several threads."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self._lock = threading.Lock()
        self._tasks: dict[str, str] = {}
        self._printed: dict[str, tuple[float, str]] = {}

    def update(
        self, task: str, text: str, phase: str = "", share: float | None = None, seconds_left: float | None = None
    ) -> None:
        """Say where a task stands. Off a terminal it prints when `phase` changes, and every ten seconds.

        `share`, 0 to 1, is how far it is, for those who show a bar.
        """
        if seconds_left is not None:
            text += f", about {clock(seconds_left)} left"
        with self._lock:
            self._tasks[task] = text
            if self.terminal:
                self._draw()
                return
            now = time.monotonic()
            last, last_phase = self._printed.get(task, (-PLAIN_LINE_SECONDS, ""))
            if phase != last_phase or now - last >= PLAIN_LINE_SECONDS:
                self._printed[task] = (now, phase)
                self._print(f"{task}: {text}")

    def done(self, task: str, text: str = "") -> None:
        """End a task, with a last line that stays if `text` is given."""
        with self._lock:
            self._tasks.pop(task, None)
            self._printed.pop(task, None)
            self._erase()
            if text:
                self._print(f"{task}: {text}")
            self._draw()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._erase()
            self._print(text)
            self._draw()

    def _draw(self) -> None:
        if not self.terminal or not self._tasks:
            return
        # Tasks that run at once share the line.
        width = (shutil.get_terminal_size().columns - 1) // len(self._tasks) - 3
        line = " | ".join(f"{task}: {text}"[:width] for task, text in self._tasks.items())
        self.stream.write("\r\x1b[K" + line)
        self.stream.flush()

    def _erase(self) -> None:
        if self.terminal:
            self.stream.write("\r\x1b[K")

    def _print(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()


class JobPrinter:
    """Prints the events of a job as progress; add it to `Job.listeners`."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        kind = event["event"]
        if kind == "progress":
            step, steps = event.get("step", 0), max(event.get("steps", 1), 1)
            parts = [f"{bar(step / steps)} {step}/{steps}"]
            if event.get("psnr") is not None:
                parts.append(f"{event['psnr']:.1f} dB")
            if event.get("seconds_left") is not None:
                parts.append(f"{clock(event['seconds_left'])} left")
            if event.get("paused"):
                parts.append("paused")
            stage = str(event.get("stage", ""))
            self.console.update("reconstruct", f"{stage} {', '.join(parts)}", phase=stage)
        elif kind == "warning":
            self.console.note(f"warning: {event['message']}")
        elif kind in ("finished", "failed", "stopped"):
            self.console.done("reconstruct")
