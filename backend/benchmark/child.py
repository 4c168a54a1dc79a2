# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one command of ours as a process of its own, as a user would, and says what it took.

A process of its own, too, because Linux counts the largest memory of whoever starts a process as that process's: what
measures must stay small.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..environment import ROOT

POLL_SECONDS = 0.05
STOP_SECONDS = 60.0  # what a job may take to leave its checkpoint


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    seconds: float
    output: str
    problem: str
    """Why it failed, in one line; "" where it did not."""
    peak_memory: int | None
    """Bytes of main memory, at most; None where the system does not say."""


def run_backend(arguments: Sequence[str], watch: Callable[[], None] | None = None) -> Ended:
    """Run `python3 -m backend ARGUMENTS` to its end, calling `watch` all the while."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}
    environ.pop("UNRENDER_LAUNCHED", None)  # when we were started; the job counts from its own start
    return run_child([sys.executable, "-P", "-m", "backend", *arguments], environ, watch)


def run_child(command: Sequence[str], environ: dict[str, str], watch: Callable[[], None] | None = None) -> Ended:
    """Run a command to its end. An exception in here or in `watch`, Ctrl-C for one, stops it first."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        # A group of its own: Ctrl-C reaches us alone, and we pass on one signal, after which a job ends in order.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closes when we die, which --stop-with-parent watches
            stdout=output,
            stderr=errors,
            env=environ,
            process_group=0 if os.name == "posix" else None,
        )
        try:
            while (ended := _ended(process)) is None:
                if watch is not None:
                    watch()
                time.sleep(POLL_SECONDS)
            seconds = time.monotonic() - began
        except BaseException:
            _stop(process)
            raise
        finally:
            if process.stdin is not None:
                process.stdin.close()
        code, peak = ended
        output.seek(0)
        errors.seek(0)
        printed, complaint = (file.read().decode("utf-8", "replace") for file in (output, errors))
    return Ended(seconds, printed, _problem(code, complaint), peak)


def _ended(process: subprocess.Popen[bytes]) -> tuple[int, int | None] | None:
    """(exit code, peak memory) once it has ended."""
    if sys.platform == "win32":
        code = process.poll()
        return None if code is None else (code, None)
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and make it after a while or at the next Ctrl-C."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _problem(code: int, complaint: str) -> str:
    if not code:
        return ""
    # A living line of progress, which ends without a line break, may stand before the last word.
    lines = [line.strip() for line in complaint.replace("\r", "\n").splitlines() if line.strip()]
    if code < 0:
        return f"ended by signal {-code}" + (f" ({lines[-1]})" if lines else "")
    return lines[-1].removeprefix("unrender: ") if lines else f"ended with exit code {code}"
