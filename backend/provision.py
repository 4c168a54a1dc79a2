# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a virtual environment and installs pinned packages into it, with progress and with errors in one line.

Standard library only.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .console import megabytes
from .errors import UserError

# The pip that interpreters bring along differs by years; one version makes its output readable and its result the same.
PIP = "pip==25.3"

# For the time left: bytes of wheels before pip says them, of downloads a second before there were any, and unpacked.
LARGE_WHEELS = {"torch": 500e6, "triton": 190e6, "warp-lang": 130e6, "scipy": 35e6, "numpy": 17e6}
GUESSED_SPEED = 10e6
UNPACKED_PER_SECOND = 40e6

# What pip says in these cases, and what we say instead.
PIP_PROBLEMS = (
    (r"No space left on device|Errno 28", "the disk is full", "Make room, or set UNRENDER_HOME to a larger disk."),
    (
        r"Failed to establish a new connection|NameResolutionError|Temporary failure in name resolution|"
        r"Network is unreachable|Connection refused|ProxyError|ConnectTimeoutError|Read timed out|Max retries exceeded",
        "the package registry cannot be reached",
        "Check the network connection and pip's configuration, then run the command again.",
    ),
    (
        r"SSLError|CERTIFICATE_VERIFY_FAILED",
        "the package registry's certificate was refused",
        "Give pip your network's certificate (PIP_CERT), then run the command again.",
    ),
    (
        r"No matching distribution found for (?P<name>\S+)",
        "the package registry has no {name} for this Python and system",
        "Use Python 3.11 or 3.13 on a 64-bit Linux, macOS or Windows.",
    ),
    (
        r"Permission denied|Errno 13|Read-only file system",
        "the environment's folder cannot be written",
        "Set UNRENDER_HOME to a folder that is yours.",
    ),
)

# The Debian package of each library that Blender's wheel and torch expect of the system.
LIBRARY_PACKAGES = {
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libXext.so.6": "libxext6",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libgomp.so.1": "libgomp1",
}


def interpreter(folder: Path) -> Path:
    """The Python of a virtual environment."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def clean_environ(**more: str) -> dict[str, str]:
    """The process environment without what would let another Python's packages in."""
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return {**environ, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", **more}


def make_venv(python: str, folder: Path, log: Path) -> None:
    """Make a virtual environment with pip at `folder`; UserError if this Python cannot."""
    _venv(python, ["--clear", str(folder)], folder, log)


def missing_base(folder: Path) -> bool:
    """Whether the Python that a virtual environment was made with is gone: Blender was moved, replaced or removed."""
    try:
        text = (folder / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return True
    match = re.search(r"^home\s*=\s*(.+?)\s*$", text, re.MULTILINE)
    return not match or not Path(match[1]).is_dir() or not interpreter(folder).exists()


def rebase_venv(python: str, folder: Path, log: Path) -> None:
    """Give a virtual environment whose Python is gone another one of the same version; its packages stay."""
    for link in (folder / "bin").glob("python*"):
        if link.is_symlink() and not link.exists():  # venv leaves links alone, broken ones too
            link.unlink()
    _venv(python, ["--upgrade", "--without-pip", str(folder)], folder, log)


def _venv(python: str, arguments: Sequence[str], folder: Path, log: Path) -> None:
    with open(log, "a", encoding="utf-8") as file:
        start = file.tell()
        result = subprocess.run(
            [python, "-m", "venv", *arguments], stdout=file, stderr=file, env=clean_environ(), check=False
        )
    if result.returncode == 0 and interpreter(folder).exists():
        return
    text = _tail(log, start)
    if "ensurepip" in text or "No module named" in text:
        version = ".".join(map(str, sys.version_info[:2]))
        raise UserError(
            "this Python cannot make virtual environments: its venv module is not complete",
            where=python,
            remedy=f"Install it (on Debian and Ubuntu: apt-get install python{version}-venv) and try again.",
        )
    raise _problem(text, "could not make a virtual environment", folder, log)


@dataclass(frozen=True)
class Progress:
    """How far a run of pip is."""

    text: str
    phase: str
    share: float  # 0 to 1
    seconds_left: float


class PipRun:
    """One `pip install`, followed by reading its output and by counting what has arrived in site-packages."""

    def __init__(
        self, python: Path, log: Path, expected: Iterable[str], report: Callable[[Progress], None] = lambda _: None
    ) -> None:
        """`expected`: names of packages, as far as known. `report` is called a few times a second, in a thread of its
        own; what it raises ends pip and comes out of `run`."""
        self.python = python
        self.log = log
        self.report = report
        self.sizes = dict.fromkeys(expected, 0.0)  # package -> bytes of its wheel, 0 while not known
        self.collected: set[str] = set()
        self.fetched: set[str] = set()
        self.installing: list[str] = []
        self.current = ""  # what is being downloaded
        self.received = 0.0  # bytes of it
        self.downloaded = 0.0  # bytes of what was downloaded before it
        self.began = time.monotonic()
        self._download_began = 0.0
        self._unpacking_began = 0.0
        self._share = 0.0
        self._refusal: BaseException | None = None

    def run(self, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Run pip to its end; UserError names what went wrong and the log."""
        command = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
        with open(self.log, "a", encoding="utf-8") as log:
            start = log.tell()  # what earlier runs wrote is not about this one
            log.write(" ".join(command) + "\n")
            log.flush()
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=dict(environ) if environ else clean_environ(),
            ) as process:
                finished = threading.Event()
                ticker = threading.Thread(target=self._tick, args=(finished, process), daemon=True)
                ticker.start()
                try:
                    assert process.stdout is not None
                    for line in process.stdout:
                        self.read_line(line)
                        if not line.startswith("Progress "):
                            log.write(line)
                except BaseException:
                    process.terminate()
                    raise
                finally:
                    finished.set()
                    ticker.join()
        if self._refusal:
            raise self._refusal
        if process.returncode:
            raise _problem(
                _tail(self.log, start), "pip could not install the packages", self.python.parent.parent, self.log
            )

    def read_line(self, line: str) -> None:
        """Learn from one line of pip's output."""
        if match := re.match(r"\s*Progress (\d+) of (\d+)", line):
            self.received = float(match[1])
        elif match := re.match(r"Collecting ([A-Za-z0-9_.-]+)", line):
            self.collected.add(normalized(match[1]))
        elif match := re.match(r"\s*(Downloading|Using cached) (?:\S*/)?([^/\s]+)\.whl \(([\d.]+) (kB|MB|GB)\)", line):
            size = float(match[3]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[match[4]]
            self._wheel(match[2], size, downloading=match[1] == "Downloading")
        elif match := re.match(r"\s*Processing (\S+)/([^/\s]+)\.whl", line):
            try:
                self._wheel(match[2], float(os.path.getsize(f"{match[1]}/{match[2]}.whl")))
            except OSError:
                self._wheel(match[2], 1e6)
        elif line.startswith("Installing collected packages: "):
            self._end_download()
            self._unpacking_began = time.monotonic()
            self.installing = [normalized(name) for name in line.partition(": ")[2].split(",")]

    def _wheel(self, name: str, size: float, downloading: bool = False) -> None:
        self._end_download()
        name = normalized(name.split("-")[0])
        self.sizes[name] = size
        self.collected.add(name)
        if downloading:
            self.current, self.received = name, 0.0
            self._download_began = self._download_began or time.monotonic()
        else:
            self.fetched.add(name)

    def _end_download(self) -> None:
        if self.current:
            self.fetched.add(self.current)
            self.downloaded += self.sizes[self.current]
        self.current, self.received = "", 0.0

    def describe(self, arrived: set[str]) -> Progress:
        """How far it is, judged by bytes. `arrived`: the packages that are installed."""
        now = time.monotonic()
        sizes = {name: self.sizes.get(name) or _guess(name) for name in self.sizes.keys() | self.collected}
        unpacking = sum(sizes.values()) / UNPACKED_PER_SECOND
        if self.installing:
            # Unpacking time goes with size; the constant stands for the many small files of small packages.
            weights = {name: sizes.get(name, 0.0) + 3e6 for name in self.installing}
            done = [name for name in self.installing if name in arrived]
            share = sum(weights[name] for name in done) / sum(weights.values())
            elapsed = now - self._unpacking_began
            left = elapsed * (1.0 - share) / share if share > 0.1 else max(unpacking - elapsed, 1.0)
            waiting = next((name for name in self.installing if name not in arrived), "")
            number = min(len(done) + 1, len(self.installing))
            text, phase = f"installing {number} of {len(self.installing)} {waiting}".rstrip(), "installing"
        else:
            seconds, got = now - self._download_began, self.downloaded + self.received
            speed = got / seconds if self._download_began and seconds > 2.0 and got > 1e6 else GUESSED_SPEED
            missing = sum(size for name, size in sizes.items() if name not in self.fetched) - self.received
            left = max(missing, 0.0) / speed + unpacking
            text, phase = f"looking up {len(self.collected)} of {len(sizes)} packages", "fetching"
            if self.current:
                number = min(len(self.fetched) + 1, len(sizes))
                text = f"downloading {number} of {len(sizes)} {self.current}"
                if (size := sizes[self.current]) > 20e6:
                    text += f" ({megabytes(self.received)} of {megabytes(size)})"
        elapsed = now - self.began
        self._share = max(self._share, elapsed / (elapsed + left + 1e-3))  # a bar that goes back unsettles
        return Progress(text, phase, self._share, left)

    def _tick(self, finished: threading.Event, process: subprocess.Popen[str]) -> None:
        while not finished.wait(0.3):
            try:
                self.report(self.describe(installed_names(self.python.parent.parent) if self.installing else set()))
            except BaseException as error:
                self._refusal = error
                process.terminate()
                return


def _guess(name: str) -> float:
    """Bytes of a wheel of which pip has not told the size yet."""
    return 200e6 if name.startswith("nvidia") else LARGE_WHEELS.get(name, 3e6)


def normalized(name: str) -> str:
    """A package name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def site_packages(folder: Path) -> list[Path]:
    """The package folders of a virtual environment."""
    if os.name == "nt":
        return [folder / "Lib" / "site-packages"]
    return sorted(folder.glob("lib/python3*/site-packages"))


def installed_versions(folder: Path) -> dict[str, str]:
    """What is installed in a virtual environment, name -> version without local part, without running it."""
    found = {}
    for packages in site_packages(folder):
        for entry in packages.glob("*.dist-info"):
            name, _, version = entry.name.removesuffix(".dist-info").rpartition("-")
            if (entry / "RECORD").exists():  # pip writes it last
                found[normalized(name)] = version.partition("+")[0]
    return found


def installed_names(folder: Path) -> set[str]:
    """The names of the packages that are completely installed in a virtual environment."""
    return set(installed_versions(folder))


def missing_libraries(text: str, folder: Path) -> list[str]:
    """System libraries that an import asked for in vain, and others that the same package will ask for next."""
    missing = re.findall(r"(lib[\w+.-]+\.so[.\d]*): cannot open shared object file", text)
    if missing:
        for packages in site_packages(folder):
            for binary in packages.glob("bpy/__init__*.so"):
                try:
                    listing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
                except OSError:
                    continue
                missing += re.findall(r"(\S+) => not found", listing)
    return list(dict.fromkeys(missing))


def library_error(libraries: Sequence[str], where: str) -> UserError:
    """One line that names the system packages to install."""
    packages = [LIBRARY_PACKAGES.get(library, "") for library in libraries]
    known = " ".join(dict.fromkeys(package for package in packages if package))
    remedy = f"On Debian and Ubuntu: apt-get install {known}" if known else "Install the packages that bring them."
    return UserError(f"system libraries are missing: {', '.join(libraries)}", where=where, remedy=remedy)


def _problem(text: str, fallback: str, folder: Path, log: Path) -> UserError:
    for pattern, what, remedy in PIP_PROBLEMS:
        if match := re.search(pattern, text):
            return UserError(what.format(**match.groupdict()), where=str(folder), remedy=f"{remedy} Log: {log}")
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "Error"))] or lines
    return UserError(fallback, where=str(folder), found=errors[-1].strip() if errors else "", remedy=f"Log: {log}")


def _tail(log: Path, start: int = 0, size: int = 20000) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")[-size:]
    except OSError:
        return ""


def full_disk(error: OSError) -> bool:
    """Whether an error means that there is no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else error.errno == errno.ENOSPC
