# SPDX-License-Identifier: GPL-3.0-or-later
"""From the built zip to an asset and back to a Blender without the extension, in a Blender of its own."""

import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from bl_ext.dev.unrender.operators import job_process

from tests.operators.extension import ROOT
from tests.operators.installed import real_python, share_kernels
from tests.operators.test_packaging import package

SMALL = {
    "carve_steps": 10,
    "carve_cells": 24,
    "shape_steps": 8,
    "surface_steps": 6,
    "texture_steps": 6,
    "grid_cells": 24,
    "table_size": 10,
    "target_triangles": 1500,
    "texture_size": 128,
    "transport_size": 0,
    "preview_seconds": 0.001,
}
BROKEN = "backend/export/__init__.py"  # in the newer version


def newer(archive: Path, target: Path) -> Path:
    """The next version, whose backend no job of the version before can use."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as made:
        for name in source.namelist():
            data = source.read(name)
            if name == "blender_manifest.toml":
                data = re.sub(rb'^version = ".*"', b'version = "99.0.0"', data, flags=re.MULTILINE)
            elif name == BROKEN:
                data = b'raise ImportError("this is another version")\n'
            made.writestr(name, data)
    return target


def small_backend(path: Path) -> Path:
    """A Python that starts the real backend, with settings for a small job."""
    options = ["--device", "cpu", "--max-size", "64"]
    for key, value in SMALL.items():
        options += ["--set", f"{key}={value}"]
    python = real_python()
    script = (
        f'#!/bin/sh\ncase " $* " in *" reconstruct "*) set -- "$@" {" ".join(options)};; esac\nexec "{python}" "$@"\n'
    )
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="uses a shell script")
def test_the_whole_way(tmp_path: Path) -> None:
    home = tmp_path / "home"
    share_kernels(home)
    python = small_backend(tmp_path / "python")
    built = package(tmp_path / "dist")
    assert built.returncode == 0, built.stderr
    archive = Path(built.stdout.split()[0])
    arguments = [archive, newer(archive, tmp_path / "newer.zip"), python, tmp_path]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("UNRENDER_")}
    environ |= {"BLENDER_USER_RESOURCES": str(tmp_path / "blender"), "UNRENDER_HOME": str(home)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.operators.whole_way", *map(str, arguments)],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        for job in (tmp_path / "work" / "unrender").glob("*"):
            job_process.end(job_process.pid_here(job))  # where the way ended early: a paused job waits for ever
    print(done.stdout)
    assert done.returncode == 0 and "\ndone without_it" in done.stdout
    assert "Traceback" not in done.stdout  # an add-on's error in register() or in a handler is only printed
