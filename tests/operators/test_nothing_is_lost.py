# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs survive what happens to Blender: undo, other files, its end, its crash."""

import subprocess
import sys
from pathlib import Path

import bpy
from bl_ext.dev.unrender.operators import follow, scene_jobs

from tests.operators import extension
from tests.operators.test_reconstruct import play, pump, settings

__all__ = ("settings",)

Settings = bpy.types.PropertyGroup

DOOMED = """
import os, sys, time
resources, module, python, jobs_folder, capture, blend = sys.argv[1:]
os.environ["BLENDER_USER_RESOURCES"] = resources
import bpy
import addon_utils
repositories = bpy.context.preferences.extensions.repos
repositories.new(name="dev", module="dev", custom_directory=os.path.join(resources, "repository"))
addon_utils.enable(module, default_set=True)
from bl_ext.dev.unrender.operators import follow
preferences = bpy.context.preferences.addons[module].preferences
preferences.python, preferences.jobs_folder = python, jobs_folder
bpy.context.scene.unrender.capture = capture
bpy.ops.unrender.reconstruct()
bpy.ops.wm.save_as_mainfile(filepath=blend)
bpy.ops.unrender.reconstruct()  # the second waits, and its place in the scene is not saved
(watch,) = follow.WATCHES.values()
while watch.status != "running":
    follow.pump()
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""


def test_undo_does_not_part_a_scene_from_its_job(settings: Settings) -> None:
    bpy.ops.ed.undo_push(message="before")
    bpy.data.objects.new("something", None)
    bpy.ops.ed.undo_push(message="something")
    watch = play(settings, "obey")
    pump(lambda: watch.status == "running")
    bpy.ops.ed.undo()
    assert "something" not in bpy.data.objects
    assert scene_jobs.folders(bpy.context.scene) == [watch.folder]
    bpy.ops.ed.redo()
    assert "something" in bpy.data.objects
    assert scene_jobs.folders(bpy.context.scene) == [watch.folder]
    bpy.ops.ed.undo()
    assert bpy.ops.unrender.control(request="finish") == {"FINISHED"}
    pump(lambda: watch.settled)
    assert "Box" in bpy.data.objects  # the result still finds its scene


def test_a_crash_of_blender(settings: Settings, tmp_path: Path) -> None:
    """Another Blender starts a job, queues a second and is killed; this one finds both, and the result."""
    (Path(settings.capture) / "scenario").write_text("obey")
    blend = tmp_path / "file.blend"
    preferences = bpy.context.preferences.addons[extension.MODULE].preferences
    arguments = [preferences.python, preferences.jobs_folder, settings.capture, str(blend)]
    doomed = subprocess.run(
        [sys.executable, "-c", DOOMED, str(extension.RESOURCES), extension.MODULE, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert doomed.returncode == -9, doomed.stderr[-2000:]
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    follow.find_jobs()
    watch = follow.job_of(bpy.context.scene)
    assert watch is not None and watch.process is None and watch.witnessed and watch.import_wanted
    pump(lambda: watch.status == "running")
    assert bpy.ops.unrender.control(request="finish") == {"FINISHED"}
    pump(lambda: len(follow.WATCHES) == 2)  # the queue goes on, too
    assert watch.status == "finished" and "Box" in bpy.data.objects
    second = list(follow.WATCHES.values())[-1]
    assert second.folder.name == "statue_2" and second.process is not None


def test_a_job_that_ended_while_no_blender_looked(settings: Settings, tmp_path: Path) -> None:
    blend = tmp_path / "file.blend"
    watch = play(settings, "obey")
    pump(lambda: watch.status == "running")
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    follow.WATCHES.clear()
    watch.request("finish")
    assert watch.process is not None
    watch.process.wait()
    bpy.ops.wm.read_homefile(use_empty=True)
    follow.find_jobs()  # the file is not even open: the note of running jobs tells
    found = follow.job_of(bpy.context.scene)
    assert found is not None and found.folder == watch.folder and found.lost
    pump(lambda: found.settled and found.status != "none")
    assert found.status == "finished" and not bpy.data.objects  # offered, not forced on a scene
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert follow.job_of(bpy.context.scene) is found
    assert bpy.ops.unrender.import_result(directory=str(found.result)) == {"FINISHED"}
    bpy.ops.wm.read_homefile(use_empty=True)
    assert follow.job_of(bpy.context.scene) is None or follow.job_of(bpy.context.scene) is found
