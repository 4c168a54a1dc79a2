# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension as a whole: its manifest, coming and going, and what it may import."""

import subprocess
import sys
from pathlib import Path

import addon_utils
import bpy
import pytest

from tests.operators import extension

SCRIPTS = Path(bpy.utils.resource_path("LOCAL")) / "scripts"
VALIDATOR = SCRIPTS / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
TAGS = SCRIPTS / "modules" / "_bpy_internal" / "extensions" / "tags.py"


def blender_ext(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(VALIDATOR), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_blenders_validator_accepts_the_manifest() -> None:
    done = blender_ext("validate", extension.ROOT, "--valid-tags", TAGS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_holds_the_program_and_nothing_else(tmp_path: Path) -> None:
    done = blender_ext(
        "build", "--source-dir", extension.ROOT, "--output-filepath", tmp_path / "unrender.zip", "--verbose"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    import zipfile

    with zipfile.ZipFile(tmp_path / "unrender.zip") as archive:
        names = archive.namelist()
    assert {"blender_manifest.toml", "__init__.py", "backend/job.py", "operators/build_blend.py"} <= set(names)
    for name in names:
        top, *_ = Path(name).parts
        assert not top.startswith(".") and top not in ("tests", "demo", "shared"), name
        assert "__pycache__" not in name and not name.endswith((".pyc", ".zip", ".blend1")), name


def test_register_twice_leaves_nothing_behind() -> None:
    def ours() -> set[str]:
        names = {name for name in dir(bpy.types) if name.startswith("UNRENDER_")}
        names |= {f"ops.{name}" for name in dir(bpy.ops.unrender)}
        return names | {"Scene.unrender"} if hasattr(bpy.types.Scene, "unrender") else names

    enabled = ours()
    assert len(enabled) >= 9
    handlers = len(bpy.app.handlers.load_post)
    drawn = len(bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize())
    try:
        for _ in range(2):
            addon_utils.disable(extension.MODULE, default_set=True)
            assert ours() == set()
            assert len(bpy.app.handlers.load_post) == handlers - 1
            assert len(bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize()) == drawn - 1
            extension.enable()
            assert ours() == enabled
            assert len(bpy.app.handlers.load_post) == handlers
            assert len(bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize()) == drawn
    finally:
        extension.enable()


def test_the_extension_needs_no_torch() -> None:
    for name in ("torch", "warp", "PIL", "OpenEXR"):
        assert name not in sys.modules, f"importing the extension imported {name}"


@pytest.mark.parametrize("folder", ["operators", "panels"])
def test_every_module_is_reached_by_relative_imports(folder: str) -> None:
    """`import backend` would find nothing in an installed extension: its name is bl_ext.<repository>.unrender."""
    for path in (extension.ROOT / folder).glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not line.strip().startswith(
                ("import backend", "from backend", "import operators", "from operators")
            ), path
