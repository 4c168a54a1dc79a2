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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import provision
from .console import Console, clock, megabytes
from .errors import UserError
from .processes import only_one, write_atomically

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STAMP = "unrender-environment.json"
MINIMUM_PYTHON = (3, 11)
# The release of bpy on the registry for each Python that has one.
BLENDER_PYTHONS = ((3, 11), (3, 13))
MINIMUM_BLENDER = (4, 5)

BACKEND_CHECK = """
import json, OpenEXR, numpy, PIL.Image, safetensors.torch, scipy.sparse, torch, trimesh, warp, xatlas
x = torch.ones(3, requires_grad=True)
(x * x).sum().backward()
assert x.grad.tolist() == [2.0, 2.0, 2.0]
warp.config.quiet = True
warp.init()
cuda = torch.cuda.is_available() and warp.is_cuda_available()
print("CHECK " + json.dumps({
    "torch": torch.__version__, "warp": warp.config.version, "cuda": cuda, "cuda_build": torch.version.cuda,
    "device": torch.cuda.get_device_name() if cuda else "cpu"}))
"""

BLENDER_CHECK = """
import json, bpy
bpy.data.meshes.new("check").from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
print("CHECK " + json.dumps({"blender": bpy.app.version_string}))
"""


@dataclass(frozen=True)
class Recipe:
    """What an environment consists of."""

    name: str  # the kind, and the beginning of the folder's name
    requirements: Path
    test_requirements: Path
    check: str  # a program that prints "CHECK {...}" when all is well
    modules: tuple[str, ...]  # what must be importable in an interpreter that the user names himself
    variable: str  # the environment variable by which he names it
    room: float  # bytes that it takes at least


BACKEND = Recipe(
    name="backend",
    requirements=HERE / "requirements.txt",
    test_requirements=HERE / "requirements-test.txt",
    check=BACKEND_CHECK,
    modules=("torch", "warp", "numpy", "PIL", "safetensors", "scipy", "trimesh"),
    variable="UNRENDER_PYTHON",
    room=2.5e9,
)


def blender_recipe(version: tuple[int, int]) -> Recipe:
    """The recipe of Blender as a module for a Python version out of BLENDER_PYTHONS."""
    assert version in BLENDER_PYTHONS
    return Recipe(
        name="blender",
        requirements=HERE / f"requirements-blender-{version[0]}.{version[1]}.txt",
        test_requirements=HERE / "requirements-blender-test.txt",
        check=BLENDER_CHECK,
        modules=("bpy",),
        variable="UNRENDER_BLENDER_PYTHON",
        room=1.6e9,
    )


def home() -> Path:
    """The folder of environments and caches: $UNRENDER_HOME, else the user's data folder of the platform."""
    if override := os.environ.get("UNRENDER_HOME"):
        return Path(override).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "unrender"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "unrender"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "unrender"


def pins(requirements: Path) -> dict[str, str]:
    """The packages of a requirements file, name -> exact version."""
    found = {}
    for line in requirements.read_text(encoding="utf-8").splitlines():
        if line := line.partition("#")[0].strip():
            name, separator, version = line.partition("==")
            assert separator, f"{requirements.name}: not pinned: {line}"
            found[provision.normalized(name)] = version.strip()
    return found


class Environment:
    """One environment: a recipe made with one Python."""

    def __init__(self, recipe: Recipe, python: str = "", version: tuple[int, int] = sys.version_info[:2]) -> None:
        """`python` makes the environment, and `version` is its version; by default this interpreter."""
        self.recipe = recipe
        self.python = python or sys.executable
        self.version = version
        key = json.dumps([sorted(pins(recipe.requirements).items()), version, sys.platform, platform.machine()])
        digest = hashlib.sha256(key.encode()).hexdigest()[:10]
        self.folder = home() / "environments" / f"{recipe.name}-{version[0]}.{version[1]}-{digest}"
        self.log = home() / "logs" / f"install-{self.folder.name}.log"

    @property
    def interpreter(self) -> Path:
        """The Python inside."""
        return provision.interpreter(self.folder)

    def stamp(self) -> dict[str, Any]:
        """What was noted when it was completed; empty if it is not complete or stands elsewhere than it was made."""
        try:
            stamp = json.loads((self.folder / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) and stamp.get("folder") == str(self.folder) else {}

    def defect(self, tests: bool = False) -> str:
        """Why it cannot be used, or "". Quick: reads the stamp and the names of what is installed, runs nothing."""
        if not self.folder.is_dir():
            return "not there"
        if not self.stamp():
            return "not complete"
        if not self.interpreter.exists():
            return "its Python is gone"
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
        torch_index: str = "",
    ) -> Path:
        """Its Python, after making or repairing the environment where needed.

        `tests` adds the packages that tests need; `verify` runs the self-test even if all looks well; `torch_index`
        names another package index for torch alone (default: $UNRENDER_TORCH_INDEX).
        """
        torch_index = torch_index or os.environ.get("UNRENDER_TORCH_INDEX", "")
        if not verify and not self.defect(tests):
            return self.interpreter
        title = f"{self.recipe.name} environment"
        try:
            lock = self.folder.with_name(self.folder.name + ".lock")
            with only_one(lock, f"{title}: another process ({{pid}}) is making it; waiting"):
                self.log.parent.mkdir(parents=True, exist_ok=True)
                reason = self.defect() or self._other_torch(torch_index) or (self._failure() if verify else "")
                if reason:
                    self._make(console, title, reason, torch_index)
                if tests and self.defect(tests=True):
                    self._pip(console, title, self.recipe.test_requirements)
        except OSError as error:
            raise UserError(
                "the disk is full" if provision.full_disk(error) else f"cannot write here ({error.strerror})",
                where=str(error.filename or home()),
                remedy="Make room, or set UNRENDER_HOME to a folder that is yours.",
            ) from error
        return self.interpreter

    def _failure(self) -> str:
        try:
            self.check()
        except UserError as error:
            return str(error)
        return ""

    def _other_torch(self, torch_index: str) -> str:
        if "torch" in pins(self.recipe.requirements) and torch_index and self.stamp()["torch_index"] != torch_index:
            return "another package index was chosen for torch"
        return ""

    def _make(self, console: Console, title: str, reason: str, torch_index: str) -> None:
        began = time.monotonic()
        if self.folder.exists():
            console.note(f"{title}: {reason}; making it anew")
            # The stamp goes first: what is half removed must not look complete.
            (self.folder / STAMP).unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        else:
            console.note(f"{title}: making it in {self.folder} (once)")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder.parent).free
        if free < self.recipe.room:
            raise UserError(
                "not enough room on the disk",
                where=str(self.folder.parent),
                expected=f"{megabytes(self.recipe.room)} for the {title}",
                found=megabytes(free),
                remedy="Make room, or set UNRENDER_HOME to a larger disk.",
            )
        console.update(title, "making a virtual environment", "venv")
        provision.make_venv(self.python, self.folder, self.log)
        try:
            provision.PipRun(self.interpreter, self.log, 1, lambda text, phase: None).run(["-q", provision.PIP])
        except UserError:
            pass  # an index that has our packages but not this pip: the one we have will do
        if torch_index and "torch" in pins(self.recipe.requirements):
            torch = f"torch=={pins(self.recipe.requirements)['torch']}"
            self._run_pip(console, title, 1, ["--index-url", torch_index, torch])
        self._pip(console, title, self.recipe.requirements)
        console.update(title, "self-test", "check")
        checked = self.check()
        if defect := self._wrong_versions():
            raise UserError("pip installed other versions than asked for", where=str(self.folder), found=defect)
        seconds = time.monotonic() - began
        stamp = {
            "folder": str(self.folder),
            "python": self.python,
            "pins": pins(self.recipe.requirements),
            "torch_index": torch_index,
            "seconds": round(seconds, 1),
            "check": checked,
        }
        write_atomically(self.folder / STAMP, json.dumps(stamp, indent=2) + "\n")
        console.done(title, f"ready after {clock(seconds)} ({', '.join(f'{k} {v}' for k, v in checked.items() if v)})")

    def _wrong_versions(self) -> str:
        found = provision.installed_versions(self.folder)
        wrong = [f"{k} {found.get(k)}" for k, v in pins(self.recipe.requirements).items() if found.get(k) != v]
        return ", ".join(wrong)

    def _pip(self, console: Console, title: str, requirements: Path) -> None:
        arguments = ["-r", str(requirements)]
        if requirements != self.recipe.requirements:
            arguments += ["-c", str(self.recipe.requirements)]
        self._run_pip(console, title, len(pins(requirements)), arguments)

    def _run_pip(self, console: Console, title: str, expected: int, arguments: list[str]) -> None:
        run = provision.PipRun(
            self.interpreter, self.log, expected, lambda text, phase: console.update(title, text, phase)
        )
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


def ensure_backend(console: Console, tests: bool = False, verify: bool = False, torch_index: str = "") -> Path:
    """The Python of the backend, made or repaired where needed."""
    if python := named_interpreter(BACKEND):
        return python
    if sys.version_info < MINIMUM_PYTHON:
        raise UserError(
            "this Python is too old", where=sys.executable, expected="3.11 or newer", found=platform.python_version()
        )
    return Environment(BACKEND).ensure(console, tests, verify, torch_index)


def find_backend() -> Path | None:
    """The Python of the backend if it is ready, without making anything."""
    if python := named_interpreter(BACKEND):
        return python
    environment = Environment(BACKEND)
    return None if environment.defect() else environment.interpreter
