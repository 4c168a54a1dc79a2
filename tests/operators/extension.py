# SPDX-License-Identifier: GPL-3.0-or-later
"""Enables the repository as an extension in the `bpy` module, in a Blender that knows nothing of this user.

Importing this module does it, once: test modules can then import `bl_ext.dev.unrender.…` like any other package.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = "bl_ext.dev.unrender"
RESOURCES = Path(tempfile.mkdtemp(prefix="unrender-blender-"))
atexit.register(shutil.rmtree, RESOURCES, ignore_errors=True)
os.environ["BLENDER_USER_RESOURCES"] = str(RESOURCES)  # before bpy is imported: no add-on or preference of the user's

import bpy  # noqa: E402  # isort: skip
import addon_utils  # noqa: E402  # isort: skip  # it is found only after bpy


def enable() -> None:
    """The repository's folder, whatever its name, stands as `unrender` in an extension repository called `dev`."""
    parent = RESOURCES / "repository"
    parent.mkdir(exist_ok=True)
    if not (parent / "unrender").exists():
        try:
            (parent / "unrender").symlink_to(ROOT, target_is_directory=True)
        except OSError:  # Windows without the right to make links
            skipped = shutil.ignore_patterns(".*", "__pycache__", "tests", "demo")
            shutil.copytree(ROOT, parent / "unrender", ignore=skipped)
    repositories = bpy.context.preferences.extensions.repos
    if "dev" not in {repository.module for repository in repositories}:
        repositories.new(name="dev", module="dev", custom_directory=str(parent))
    if addon_utils.enable(MODULE, default_set=True) is None:
        raise RuntimeError(f"{MODULE} did not enable: see the traceback above")


bpy.ops.wm.read_factory_settings(use_empty=True)
enable()


def forget_jobs() -> None:
    """Ends the following of jobs, and their processes, and empties the queue: each test starts without any."""
    from bl_ext.dev.unrender.operators import follow, job_places, queue_jobs

    for watch in follow.WATCHES.values():
        if watch.process is not None and watch.process.poll() is None:
            watch.process.kill()
            watch.process.wait()
    follow.WATCHES.clear()
    for folder in filter(None, (job_places.queue_folder(), job_places.register_folder())):
        shutil.rmtree(folder)
    queue_jobs.refresh()
    queue_jobs.hold(False)
