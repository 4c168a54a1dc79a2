# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds something that can run the Blender side without a window: bpy in an environment of its own, or a Blender.

Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import environment
from .console import Console
from .errors import UserError


@dataclass(frozen=True)
class Blender:
    """A way to run a script that imports bpy."""

    program: Path
    is_module: bool  # a Python with bpy, rather than the Blender program
    label: str

    def command(self, script: Path, arguments: Sequence[str]) -> list[str]:
        """The command line that runs `script` with `arguments`, which it finds in sys.argv (after "--" in Blender)."""
        if self.is_module:
            return [str(self.program), str(script), *arguments]
        options = ["--background", "--factory-startup", "--python-exit-code", "1", "--python"]
        return [str(self.program), *options, str(script), "--", *arguments]


def find_python(version: tuple[int, int]) -> str:
    """An interpreter of exactly this version that can make virtual environments; "" if there is none to be found."""
    if sys.version_info[:2] == version:
        return sys.executable
    name = f"python{version[0]}.{version[1]}"
    candidates = [shutil.which(name) or ""]
    candidates += [
        str(path) for path in sorted(Path.home().glob(f".pyenv/versions/{version[0]}.{version[1]}.*/bin/{name}"))
    ]
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        try:
            result = subprocess.run([candidate, "-c", code], capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.SubprocessError):
            continue
        if result.returncode == 0 and result.stdout.strip() == f"{version[0]}.{version[1]}":
            return candidate
    return ""


def module_environments(all_versions: bool = False) -> list[environment.Environment]:
    """The environments with bpy that can be had here: for this Python if it has one, else for another on this machine.

    With `all_versions`, one for each Python version that bpy is published for and that this machine has.
    """
    order = sorted(environment.BLENDER_PYTHONS, key=lambda version: version != sys.version_info[:2])
    found = []
    for version in order:
        if python := find_python(version):
            found.append(environment.Environment(environment.blender_recipe(version), python, version))
            if not all_versions:
                break
    return found


def ensure_blender(console: Console, tests: bool = False) -> Blender:
    """Something that runs the Blender side, made where needed. UserError says in one line why there is none."""
    recipe = environment.blender_recipe(environment.BLENDER_PYTHONS[0])
    if python := environment.named_interpreter(recipe):
        return Blender(python, True, f"bpy in {python}")
    problem: UserError | None = None
    for candidate in module_environments():
        try:
            python = candidate.ensure(console, tests)
        except UserError as error:
            problem = error
            continue
        return Blender(python, True, f"bpy {environment.pins(candidate.recipe.requirements)['bpy']}")
    if program := installed_blender():
        return program
    raise problem or UserError(
        "no Blender to be had",
        expected="Python 3.11 or 3.13 (bpy is published for these), or Blender 4.5 or newer on the PATH",
        found=f"Python {sys.version_info[0]}.{sys.version_info[1]} and no such Blender",
    )


def installed_blender() -> Blender | None:
    """The Blender on the PATH, if it is new enough."""
    program = shutil.which("blender")
    if not program:
        return None
    try:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"Blender (\d+)\.(\d+)", output)
    if not match or (int(match[1]), int(match[2])) < environment.MINIMUM_BLENDER:
        return None
    return Blender(Path(program), False, f"Blender {match[1]}.{match[2]} at {program}")


def run_environ() -> dict[str, str]:
    """The process environment for the Blender side: no user add-ons or settings, and no other Python's packages."""
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    resources = environment.home() / "cache" / "blender"
    return {**environ, "BLENDER_USER_RESOURCES": str(resources), "PYTHONNOUSERSITE": "1"}
