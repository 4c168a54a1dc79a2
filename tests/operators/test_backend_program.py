# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of the backend that processes run, so that the extension's folder is Blender's alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bl_ext.dev.unrender.operators import backend_program

from tests.operators.extension import ROOT


def test_a_copy_that_runs(tmp_path: Path) -> None:
    folder = backend_program.program(tmp_path)
    assert folder.parent == tmp_path / "programs" and folder.resolve() != ROOT
    assert sorted(path.name for path in folder.iterdir()) == ["backend", "blender_manifest.toml"]
    assert not list(folder.rglob("__pycache__"))
    code = "from backend import environment; print(environment.ROOT)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == folder
    before = folder.stat().st_ino
    assert backend_program.program(tmp_path) == folder and folder.stat().st_ino == before  # once is enough


def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    folder = backend_program.program(tmp_path)
    (folder / "backend" / "job.py").write_text("")
    (folder / "backend" / "errors.py").unlink()
    assert backend_program.program(tmp_path) == folder
    for name in ("job.py", "errors.py"):
        assert (folder / "backend" / name).read_bytes() == (ROOT / "backend" / name).read_bytes()
    assert list(folder.parent.iterdir()) == [folder]


def test_another_version_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, unused = backend_program.program(tmp_path), tmp_path / "programs" / "unused"
    unused.mkdir()
    long_ago = time.time() - 2 * backend_program.KEPT_SECONDS
    os.utime(unused, (long_ago, long_ago))
    newer = tmp_path / "newer"
    (newer / "backend").mkdir(parents=True)
    (newer / "backend" / "job.py").write_text("changed = True\n")
    monkeypatch.setattr(backend_program, "ROOT", newer)
    other = backend_program.program(tmp_path)
    assert other != folder and folder.is_dir() and not unused.exists()
    assert (other / "backend" / "job.py").read_text() == "changed = True\n"


def test_without_room_for_a_copy(tmp_path: Path) -> None:
    (tmp_path / "programs").write_text("not a folder")
    assert backend_program.program(tmp_path).resolve() == ROOT
