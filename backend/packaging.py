# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the extension zip and a static repository with Blender's own builder, which comes with bpy or with Blender.

Standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import environment
from .blender import ensure_blender, run_environ
from .console import Console
from .errors import UserError

# What the extension consists of: a list, so that job folders and other files in the work tree never get in.
CONTENT = ("blender_manifest.toml", "__init__.py", "LICENSE", "README.md", "backend", "operators", "panels")
BUILDER = "scripts/addons_core/bl_pkg/cli/blender_ext.py"


def package(out: Path, console: Console) -> list[Path]:
    """Write the zip and index.json into `out`, replacing earlier ones of this extension; returns the files.

    Raises UserError with the builder's own words where it refuses.
    """
    root = environment.ROOT
    if not (root / "blender_manifest.toml").is_file():
        raise UserError("no manifest", where=str(root), expected="blender_manifest.toml")
    builder = find_builder(console)
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".build-") as temporary:
        source, built = Path(temporary) / "source", Path(temporary) / "built"
        _copy_content(root, source)
        built.mkdir()
        _run([*builder, "validate", str(source)])
        _run([*builder, "build", "--source-dir", str(source), "--output-dir", str(built)])
        archives = sorted(built.glob("*.zip"))
        if len(archives) != 1:
            raise UserError("the builder made no zip", where=str(root))
        _run([*builder, "validate", str(archives[0])])
        archive = out / archives[0].name
        shutil.move(archives[0], archive)
    _run([*builder, "server-generate", "--repo-dir", str(out)])
    index = out / "index.json"
    if not index.is_file():
        raise UserError("the builder made no index.json", where=str(out))
    return [archive, index]


def _copy_content(root: Path, target: Path) -> None:
    target.mkdir()
    for name in CONTENT:
        path = root / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.py[cod]", ".*"))
        elif path.is_file():
            shutil.copy2(path, target / name)


def find_builder(console: Console) -> list[str]:
    """The command line of Blender's extension builder."""
    blender = ensure_blender(console)
    if not blender.is_module:
        return [str(blender.program), "--command", "extension"]
    code = "import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec('bpy').origin).parent)"
    found = subprocess.run([str(blender.program), "-c", code], capture_output=True, text=True, check=False)
    scripts = sorted(Path(found.stdout.strip()).glob(f"*/{BUILDER}"))
    if found.returncode or not scripts:
        raise UserError("this bpy has no extension builder", where=str(blender.program), expected=BUILDER)
    # The builder needs the standard library only.
    return [sys.executable, str(scripts[-1])]


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace", env=run_environ(), check=False
    )
    if result.returncode:
        lines = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
        raise UserError("Blender's extension builder refused", where=command[-1], found="; ".join(lines[-3:]))
