# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of a job: starting it, and ending it when it no longer listens (no bpy)."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..backend.errors import UserError
from ..backend.job import JobFolder


def start(
    command: Sequence[str], root: Path, log: Path, environ: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts a program of the backend, which stands in `root`, and returns at once; `log` receives what it prints.

    The process is in a session of its own: neither Ctrl-C on Blender's terminal nor Blender's end reach it. Raises
    UserError when it cannot be started.
    """
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")}
    # No byte code: an extension's folder belongs to Blender, and may be read-only.
    own |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **(environ or {})}
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as output:
            return subprocess.Popen(
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
            "cannot start the backend",
            where=str(command[0]),
            found=error.strerror or str(error),
            remedy="Check 'Backend Python' in the add-on's preferences.",
        ) from error


def end(pid: int) -> None:
    """Ends a process and, where it leads a group as ours do, its children. It is not asked: nothing of it is saved."""
    if pid <= 1:  # to the system these mean "everybody"
        return
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            subprocess.Popen(["taskkill", "/F", "/T", "/PID", str(pid)], creationflags=subprocess.CREATE_NO_WINDOW)
        elif os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def pid_here(folder: Path) -> int:
    """The process that works in a job folder, if it lives on this machine and so may be ended by its number; else 0."""
    files = JobFolder(folder)
    try:
        held = json.loads(files.claim.read_text(encoding="utf-8"))
        host = str(held["host"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return max(files.running_pid(), 0) if host == socket.gethostname() else 0
