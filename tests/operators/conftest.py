# SPDX-License-Identifier: GPL-3.0-or-later
"""Every test here runs in a real Blender: the `bpy` module, an empty file, the extension enabled."""

from collections.abc import Iterator
from pathlib import Path

from tests.operators import extension, sample_result  # isort: skip  # before bpy: it says where Blender's files are

import bpy
import pytest


@pytest.fixture(autouse=True)
def empty_file() -> Iterator[bpy.types.Scene]:
    """A new file without objects; what a test left behind is gone."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    yield bpy.context.scene
    extension.forget_jobs()


@pytest.fixture(scope="session")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small result folder. Read it, do not change it."""
    return sample_result.write(tmp_path_factory.mktemp("sample") / "result")


@pytest.fixture
def own_result(tmp_path: Path) -> Path:
    """A small result folder to damage."""
    return sample_result.write(tmp_path / "result")
