# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process owns a folder: claims that survive crashes, and handing a command over to another interpreter.

Standard library only. A claim is a file that names a process by its id and the time it started, because ids are reused.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

# A claim made on another machine (a shared folder) cannot be looked up: it holds while its file is younger than this.
FOREIGN_CLAIM_SECONDS = 3600.0


def start_time(pid: int) -> str:
    """When a process started, in units that only compare with themselves; "" if there is no such process."""
    if pid <= 0:
        return ""
    if sys.platform == "win32":
        return _start_time_windows(pid)
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The command name stands in brackets and may itself contain spaces and brackets.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]  # a zombie has ended; field 22 of the file is the start time
    listing = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip()


def _start_time_windows(pid: int) -> str:
    if sys.platform != "win32":
        return ""
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.OpenProcess.restype = wintypes.HANDLE
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return ""
    try:
        times = [wintypes.FILETIME() for _ in range(4)]
        code = wintypes.DWORD()
        kernel.GetExitCodeProcess(wintypes.HANDLE(handle), ctypes.byref(code))
        if code.value != 259:  # STILL_ACTIVE
            return ""
        kernel.GetProcessTimes(wintypes.HANDLE(handle), *(ctypes.byref(t) for t in times))
        return str(times[0].dwHighDateTime << 32 | times[0].dwLowDateTime)
    finally:
        kernel.CloseHandle(wintypes.HANDLE(handle))


def is_alive(pid: int, started: str) -> bool:
    """Whether the process that had this id and start time still runs."""
    return bool(started) and start_time(pid) == started


def peak_memory() -> int:
    """The most memory that this process has held so far, bytes; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by `text`: a reader sees the old or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        _replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _replace(source: Path, target: Path) -> None:
    # On Windows a reader that has the file open for a moment makes the replacement fail.
    for attempt in range(20):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == 19:
                raise
            time.sleep(0.05)


class Claim:
    """A file that says which process owns something, taken with `take` and given up with `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = ""

    def owner(self) -> int:
        """The id of the living process that holds the claim, 0 if there is none, -1 while one is being written."""
        return self._read()[0]

    def take(self) -> bool:
        """Take the claim; False if a living process holds it. A claim whose process died is taken over."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        pid = os.getpid()
        text = json.dumps({"pid": pid, "started": start_time(pid), "host": socket.gethostname(), "at": time.time()})
        for _ in range(3):
            try:
                # Opening for exclusive creation is what makes two owners impossible.
                with open(self.path, "x", encoding="utf-8") as file:
                    file.write(text)
            except FileExistsError:
                owner, found = self._read()
                if owner:
                    return False
                self._remove_dead(found)
                continue
            self._text = text
            return True
        return False

    def refresh(self) -> None:
        """Show other machines that the owner still lives."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Give the claim up, if it is still ours."""
        with contextlib.suppress(OSError):
            if self._text and self.path.read_text(encoding="utf-8") == self._text:
                self.path.unlink()
        self._text = ""

    def _read(self) -> tuple[int, str]:
        text = ""
        try:
            age = time.time() - self.path.stat().st_mtime
            text = self.path.read_text(encoding="utf-8", errors="replace")
            held = json.loads(text)
            pid, started, host = int(held["pid"]), str(held["started"]), str(held["host"])
        except (FileNotFoundError, NotADirectoryError):
            return 0, text
        except (ValueError, KeyError, TypeError):
            # Being written at this moment, or half-written by a process that died.
            return (0 if age > 5.0 else -1), text
        if host != socket.gethostname():
            return (0 if age > FOREIGN_CLAIM_SECONDS else pid), text
        return (pid if is_alive(pid, started) else 0), text

    def _remove_dead(self, found: str) -> None:
        # Another process may see the same dead claim and have replaced it by its own since we read it: look at what we
        # moved away, and put it back if it is not what we found dead.
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}-{time.monotonic_ns()}")
        with contextlib.suppress(OSError):
            os.rename(self.path, aside)
            if aside.read_text(encoding="utf-8", errors="replace") != found:
                os.link(aside, self.path)
        with contextlib.suppress(OSError):
            aside.unlink()


@contextlib.contextmanager
def only_one(path: Path, waiting: str, poll: float = 0.5) -> Iterator[bool]:
    """Hold a claim on `path` for the block; wait for another living holder. Yields whether it had to wait.

    `waiting` is printed once, to stderr, when there is something to wait for.
    """
    claim = Claim(path)
    waited = False
    while not claim.take():
        if not waited:
            print(waiting.format(pid=claim.owner()), file=sys.stderr, flush=True)
        waited = True
        time.sleep(poll)
    try:
        yield waited
    finally:
        claim.release()


def replace_process(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Go on as another program: in this process where the system can, else as a child whose exit code we pass on."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execve(command[0], list(command), dict(environ))
    # Windows: Ctrl-C reaches the child by itself; we only have to live long enough to report its exit code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(subprocess.call(list(command), env=dict(environ)))
