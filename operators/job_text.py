# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job says, cut to what a panel can show (no bpy)."""

import os
from pathlib import Path

LONGEST_TEXT = 400  # a panel shows no more of one message


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
            # A progress bar returns the carriage and writes over itself: to us these are lines too.
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
