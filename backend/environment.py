# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes, checks and repairs the Python environments that Unrender works in.

Standard library only; Blender imports it too. There are two kinds, because Blender 4.5 and 5.0 need numpy < 2:

    backend   torch, Warp and what else the reconstruction needs
    blender   Blender as a Python module (bpy), for writing .blend files without a Blender

Each stands under `home()`/environments in a folder named after a hash of its pinned packages and its Python. A stamp
file, written last and after a self-test, says that it is complete; anything without a valid stamp is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import packages, provision
from .console import Console, clock, megabytes
from .errors import UserError
from .packages import Gpu, Source
from .processes import Claim, only_one, write_atomically
from .recipes import BACKEND, BLENDER_PYTHONS, Recipe, blender_recipe, pins

__all__ = [
    "BACKEND",
    "BLENDER_PYTHONS",
    "Environment",
    "Recipe",
    "blender_recipe",
    "ensure_backend",
    "find_backend",
    "home",
    "named_interpreter",
    "own_python_note",
    "pins",
    "read_json",
]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STAMP = "unrender-environment.json"
SELF_TEST = "unrender-self-test.json"
PYTHON_GONE = "its Python is gone"
# How far making an environment is after torch, where it is installed by itself, and after pip.
TORCH_SHARE, PIP_SHARE = (0.0, 0.7), (0.0, 0.95)
# Set for a process that runs inside the environment: which interpreter it was started with, and how often the
# environment was checked on the way.
INSIDE, VERIFY = "UNRENDER_INSIDE", "UNRENDER_VERIFY"
CUDA_ROOM = 8e9  # bytes that the CUDA build takes, downloads included
MINIMUM_PYTHON = (3, 11)
MINIMUM_BLENDER = (4, 5)


def home() -> Path:
    """The folder of environments and caches: $UNRENDER_HOME, else the user's data folder of the platform."""
    if override := os.environ.get("UNRENDER_HOME"):
        return Path(override).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "unrender"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "unrender"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "unrender"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none to read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def own_python_note(base: Path | None = None) -> Path:
    """Where the outcome of the self-test of an interpreter that the user named is kept."""
    return (base or home()) / "own-python-self-test.json"


class Environment:
    """One environment: a recipe made with one Python."""

    def __init__(
        self,
        recipe: Recipe,
        python: str = "",
        version: tuple[int, int] = sys.version_info[:2],
        base: Path | None = None,
    ) -> None:
        """`python`, of this `version`, makes it (default: this interpreter). `base` stands for `home()`."""
        self.recipe = recipe
        self.python = python or sys.executable
        self.version = version
        self.base = base or home()
        key = json.dumps([sorted(pins(recipe.requirements).items()), version, sys.platform, platform.machine()])
        digest = hashlib.sha256(key.encode()).hexdigest()[:10]
        self.folder = self.base / "environments" / f"{recipe.name}-{version[0]}.{version[1]}-{digest}"
        self.log = self.base / "logs" / f"install-{self.folder.name}.log"

    @property
    def interpreter(self) -> Path:
        """The Python inside."""
        return provision.interpreter(self.folder)

    @property
    def lock(self) -> Path:
        """What the process that makes it holds."""
        return self.folder.with_name(self.folder.name + ".lock")

    def maker(self) -> int:
        """The id of the process that is making it now, or 0."""
        return Claim(self.lock).owner()

    def self_test(self) -> dict[str, Any]:
        """What `note_self_test` was told last; empty if the environment was not tested since it was made."""
        return read_json(self.folder / SELF_TEST)

    def note_self_test(self, outcome: Mapping[str, Any]) -> None:
        """Keep the outcome of the self-test with the environment."""
        write_atomically(self.folder / SELF_TEST, json.dumps(dict(outcome), indent=2) + "\n")

    def stamp(self) -> dict[str, Any]:
        """What was noted when it was completed; empty if it is not complete or stands elsewhere than it was made."""
        stamp = read_json(self.folder / STAMP)
        return stamp if stamp.get("folder") == str(self.folder) else {}

    def defect(self, tests: bool = False) -> str:
        """Why it cannot be used, or "". Quick: reads the stamp and the names of what is installed, runs nothing."""
        if not self.folder.is_dir():
            return "not there"
        if not self.stamp():
            return "not complete"
        if provision.missing_base(self.folder):
            return PYTHON_GONE
        wanted = pins(self.recipe.requirements) | (pins(self.recipe.test_requirements) if tests else {})
        found = provision.installed_versions(self.folder)
        for name, version in wanted.items():
            if name not in found:
                return f"{name} is missing"
            if found[name] != version:
                return f"{name} is {found[name]} instead of {version}"
        return ""

    def check(self) -> dict[str, Any]:
        """Run the self-test: imports, and a small operation. UserError says what is wrong."""
        environ = provision.clean_environ()
        environ["BLENDER_USER_RESOURCES"] = str(home() / "cache" / "blender")
        try:
            result = subprocess.run(
                [str(self.interpreter), "-c", self.recipe.check],
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=environ,
                timeout=600,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(
                "the environment's Python does not run", where=str(self.folder), found=str(error)
            ) from error
        match = re.search(r"^CHECK (.*)$", result.stdout, re.MULTILINE)
        if result.returncode == 0 and match:
            return dict(json.loads(match[1]))
        if libraries := provision.missing_libraries(result.stderr, self.folder):
            raise provision.library_error(libraries, f"{self.recipe.name} environment")
        last = [line for line in result.stderr.splitlines() if line.strip()]
        found = last[-1] if last else f"exit code {result.returncode}"
        raise UserError("the environment fails its self-test", where=str(self.folder), found=found)

    def ensure(
        self,
        console: Console,
        tests: bool = False,
        verify: bool = False,
        source: Source | None = None,
        spoiled: str = "",
    ) -> Path:
        """Its Python, after making or repairing the environment where needed.

        `tests` adds the packages that tests need; `verify` runs the check even if all looks well; `source` is where
        packages come from (default: what variables say); `spoiled` is a reason to make it anew in any case.
        """
        source = source or Source.from_environ()
        if not verify and not spoiled and not self.defect(tests):
            return self.interpreter
        title = f"{self.recipe.name} environment"
        try:
            with only_one(self.lock, f"{title}: another process ({{pid}}) is making it; waiting") as waited:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                reason = "" if waited else spoiled
                reason = reason or self.defect() or self._other_torch(source) or (self._failure() if verify else "")
                if reason == PYTHON_GONE and self._rebase(console, title):
                    reason = ""
                if reason:
                    self._make(console, title, reason, source)
                if tests and self.defect(tests=True):
                    self._pip(console, title, self.recipe.test_requirements, source)
        except OSError as error:
            raise UserError(
                "the disk is full" if provision.full_disk(error) else f"cannot write here ({error.strerror})",
                where=str(error.filename or self.base),
                remedy="Make room, or set UNRENDER_HOME to a folder that is yours.",
            ) from error
        return self.interpreter

    def _failure(self) -> str:
        try:
            self.check()
        except UserError as error:
            return str(error)
        return ""

    def _other_torch(self, source: Source) -> str:
        wanted = source.torch_index if source.wheels is None else ""
        if "torch" in pins(self.recipe.requirements) and wanted and self.stamp()["torch_index"] != wanted:
            return "another package index was chosen for torch"
        return ""

    def _rebase(self, console: Console, title: str) -> bool:
        """Where only the Python has gone, as when Blender was updated: put this one in its place. False if in vain."""
        console.note(f"{title}: {PYTHON_GONE}; putting {self.python} in its place")
        try:
            provision.rebase_venv(self.python, self.folder, self.log)
            self.check()
        except UserError:
            return False
        self._write_stamp({**self.stamp(), "python": self.python})
        return not self.defect()

    def _write_stamp(self, stamp: Mapping[str, Any]) -> None:
        write_atomically(self.folder / STAMP, json.dumps(dict(stamp), indent=2) + "\n")

    def _make(self, console: Console, title: str, reason: str, source: Source) -> None:
        began = time.monotonic()
        wanted = pins(self.recipe.requirements)
        source.check(wanted, ".".join(map(str, self.version)))
        if self.folder.exists():
            console.note(f"{title}: {reason}; making it anew")
            # The stamp goes first: what is half removed must not look complete.
            (self.folder / STAMP).unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        else:
            console.note(f"{title}: making it in {self.folder} (once)")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        gpu = packages.find_gpu() if "torch" in wanted and source.gpu else None
        room = max(self.recipe.room, CUDA_ROOM) if gpu and gpu.cuda else self.recipe.room
        free = shutil.disk_usage(self.folder.parent).free
        if free < room:
            raise UserError(
                "not enough room on the disk",
                where=str(self.folder.parent),
                expected=f"{megabytes(room)} for the {title}",
                found=megabytes(free),
                remedy="Make room, or set UNRENDER_HOME to a larger disk.",
            )
        console.update(title, "making a virtual environment", "venv", share=0.0)
        provision.make_venv(self.python, self.folder, self.log)
        if source.wheels is None:
            try:
                provision.PipRun(self.interpreter, self.log, ()).run(["-q", provision.PIP])
            except UserError:
                pass  # an index that has our packages but not this pip: the one we have will do
        torch_index = self._torch(console, title, source, gpu) if "torch" in wanted else ""
        self._pip(console, title, self.recipe.requirements, source)
        console.update(title, "self-test", "check", share=PIP_SHARE[1])
        checked = self.check()
        if defect := self._wrong_versions():
            raise UserError("pip installed other versions than asked for", where=str(self.folder), found=defect)
        seconds = time.monotonic() - began
        stamp = {
            "folder": str(self.folder),
            "python": self.python,
            "pins": wanted,
            "torch_index": torch_index,
            "seconds": round(seconds, 1),
            "check": checked,
        }
        if gpu and not checked.get("cuda"):
            stamp["note"] = packages.why_no_cuda(gpu, checked.get("cuda_build"))
        self._write_stamp(stamp)
        found = ", ".join(f"{k} {v}" for k, v in checked.items() if v and k != "memory")
        console.done(title, f"ready after {clock(seconds)} ({found})")

    def _torch(self, console: Console, title: str, source: Source, gpu: Gpu | None) -> str:
        """Install torch by itself where it has an index of its own; returns the index, "" if it is pip's."""
        if source.wheels is not None:
            return ""
        indexes = (source.torch_index,) if source.torch_index else packages.torch_indexes(gpu)
        if not source.torch_index and packages.GENERAL in indexes and packages.pip_has_places(self.interpreter):
            return ""
        torch = f"torch=={pins(self.recipe.requirements)['torch']}"
        for index in indexes:
            if index == packages.GENERAL:
                return ""
            # What torch itself needs comes with the other packages, in the pinned versions.
            arguments = ["--index-url", index, "--no-deps", torch]
            if index != indexes[-1]:
                arguments = ["--retries", "1", "--timeout", "15", *arguments]  # there is another one
            try:
                self._run_pip(console, title, ["torch"], arguments, TORCH_SHARE)
                return index
            except UserError as error:
                if index == indexes[-1]:
                    raise
                console.note(f"{title}: no {torch} from {index} ({error.what}); trying the next index")
        return ""

    def _wrong_versions(self) -> str:
        found = provision.installed_versions(self.folder)
        wrong = [f"{k} {found.get(k)}" for k, v in pins(self.recipe.requirements).items() if found.get(k) != v]
        return ", ".join(wrong)

    def _pip(self, console: Console, title: str, requirements: Path, source: Source) -> None:
        arguments = [*source.arguments(), "-r", str(requirements)]
        if requirements != self.recipe.requirements:
            arguments += ["-c", str(self.recipe.requirements)]
        there = provision.installed_versions(self.folder)
        missing = [name for name, version in pins(requirements).items() if there.get(name) != version]
        self._run_pip(console, title, missing, arguments, (TORCH_SHARE[1] if "torch" in there else 0.0, PIP_SHARE[1]))

    def _run_pip(
        self, console: Console, title: str, expected: list[str], arguments: list[str], span: tuple[float, float]
    ) -> None:
        """`span`: which part of making the environment this is."""

        def report(progress: provision.Progress) -> None:
            share = span[0] + (span[1] - span[0]) * progress.share
            console.update(title, progress.text, progress.phase, share, progress.seconds_left)

        run = provision.PipRun(self.interpreter, self.log, expected, report)
        try:
            # Without --no-compile pip compiles every file of torch to bytecode, which takes longer than unpacking it;
            # Python does so by itself for the few that are imported.
            run.run(["--no-compile", "--progress-bar", self._progress_style(), *arguments])
        finally:
            console.done(title)

    def _progress_style(self) -> str:
        version = provision.installed_versions(self.folder).get("pip", "0")
        return "raw" if tuple(map(int, re.findall(r"\d+", version)[:2])) >= (24, 1) else "off"


def named_interpreter(recipe: Recipe, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The interpreter that the user named in place of a managed environment, after a look at what it can import."""
    value = environ.get(recipe.variable)
    if not value:
        return None
    # A bare name is looked up on the PATH, as a shell does.
    python = Path(shutil.which(value) or value).expanduser().absolute()
    code = "import importlib.util, sys; print(' '.join(m for m in sys.argv[1:] if importlib.util.find_spec(m) is None))"
    try:
        result = subprocess.run(
            [str(python), "-c", code, *recipe.modules], capture_output=True, text=True, timeout=120, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            "this is not a working Python", where=recipe.variable, found=value, remedy=f"Unset {recipe.variable}."
        ) from error
    if missing := result.stdout.strip():
        raise UserError(
            "this Python lacks packages",
            where=recipe.variable,
            expected=" ".join(recipe.modules),
            found=f"{value} without {missing}",
            remedy=f"Install them there, or unset {recipe.variable} to have the environment made.",
        )
    return python


def ensure_backend(
    console: Console, tests: bool = False, verify: bool = False, source: Source | None = None, spoiled: str = ""
) -> Path:
    """The Python of the backend, made or repaired where needed."""
    if python := named_interpreter(BACKEND):
        return python
    if sys.version_info < MINIMUM_PYTHON:
        raise UserError(
            "this Python is too old", where=sys.executable, expected="3.11 or newer", found=platform.python_version()
        )
    return Environment(BACKEND).ensure(console, tests, verify, source, spoiled)


def find_backend() -> Path | None:
    """The Python of the backend if it is ready, without making anything."""
    if python := named_interpreter(BACKEND):
        return python
    environment = Environment(BACKEND)
    return None if environment.defect() else environment.interpreter
