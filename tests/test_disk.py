# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting and removing what installations leave on the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backend import disk
from backend.errors import UserError


def environment(base: Path, name: str) -> Path:
    folder = base / "environments" / name
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "torch.so").write_bytes(b"x" * 1000)
    (folder / "stamp").write_bytes(b"x" * 23)
    return folder


def test_sizes_and_what_is_there(tmp_path: Path) -> None:
    first = environment(tmp_path, "backend-3.11-aaaa")
    second = environment(tmp_path, "backend-3.13-bbbb")
    environment(tmp_path, "blender-3.11-cccc")
    first.with_name("backend-3.11-aaaa.lock").touch()
    assert disk.environments(tmp_path) == [first, second]
    assert disk.environments(tmp_path / "none") == []
    assert disk.folder_size(first) == 1023 and disk.folder_size(tmp_path / "none") == 0
    (first / "link").symlink_to(second)
    assert disk.folder_size(first) < 1500  # what it points to is not its own


def test_removed_with_what_was_left_of_an_earlier_removal(tmp_path: Path) -> None:
    folder = environment(tmp_path, "backend-3.11-aaaa")
    left = environment(tmp_path, f"{disk.REMOVED}backend-3.11-bbbb-77")
    kept = environment(tmp_path, "blender-3.11-cccc")
    disk.remove([folder, tmp_path / "never" / "there"])
    assert not folder.exists() and not left.exists() and kept.exists()
    assert [path.name for path in (tmp_path / "environments").iterdir()] == [kept.name]


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    folder = environment(tmp_path, "backend-3.11-aaaa")
    link = folder.with_name("backend-3.11-link")
    link.symlink_to(folder, target_is_directory=True)
    disk.remove([link])
    assert not link.is_symlink() and (folder / "stamp").exists()


def test_what_is_being_made_is_left_alone(tmp_path: Path) -> None:
    folder = environment(tmp_path, "backend-3.11-aaaa")
    code = (
        "import sys; from pathlib import Path; from backend.processes import Claim\n"
        "assert Claim(Path(sys.argv[1])).take(); print('taken', flush=True); input()"
    )
    lock = folder.with_name(folder.name + ".lock")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "taken\n"
        with pytest.raises(UserError, match="is installing it"):
            disk.remove([folder])
        other.kill()
    assert (folder / "stamp").exists()
    disk.remove([folder])
    assert not folder.exists()
