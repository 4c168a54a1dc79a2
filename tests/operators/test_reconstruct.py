# SPDX-License-Identifier: GPL-3.0-or-later
"""The Reconstruct button and the timer behind it, in Blender, with the stand-in backend."""

import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.backend.capture import read_capture
from bl_ext.dev.unrender.operators import follow, job_places, reconstruct

from tests.operators import extension
from tests.operators.test_collect_open import native
from tests.operators.test_jobs import STAND_IN


@pytest.fixture
def settings(tmp_path: Path, result: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bpy.types.PropertyGroup]:
    """A scene with a capture, and a preference that starts the stand-in instead of the backend."""
    monkeypatch.setenv("UNRENDER_HOME", str(extension.RESOURCES / "home"))
    capture = tmp_path / "statue"
    capture.mkdir()
    (capture / "result").symlink_to(result)
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    preferences = bpy.context.preferences.addons[extension.MODULE].preferences
    preferences.python = str(program)
    preferences.jobs_folder = str(tmp_path / "jobs")
    bpy.context.scene.unrender.capture = str(capture)
    yield bpy.context.scene.unrender
    preferences.python = preferences.jobs_folder = ""


def play(settings: bpy.types.PropertyGroup, scenario: str) -> follow.JobWatch:
    (Path(settings.capture) / "scenario").write_text(scenario)
    assert bpy.ops.unrender.reconstruct() == {"FINISHED"}
    watch = follow.job_of(bpy.context.scene)
    assert watch is not None
    return watch


def pump(until: Callable[[], bool], seconds: float = 20) -> None:
    """Calls the timer's function as Blender would: timers never fire in the module."""
    deadline = time.monotonic() + seconds
    while not until():
        follow._next_folder_check = 0.0
        for watch in follow.WATCHES.values():
            watch._next_alive_check = 0.0
        follow.pump()
        assert time.monotonic() < deadline, [(watch.status, watch.message) for watch in follow.WATCHES.values()]
        time.sleep(0.005)


def test_reconstruct_runs_and_imports(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    bpy.ops.ed.undo_push(message="before")
    watch = play(settings, "finish")
    assert Path(settings.job_folder) == watch.folder == tmp_path / "jobs" / "statue"
    assert bpy.app.timers.is_registered(follow.pump)
    pump(lambda: watch.settled)
    assert watch.status == "finished" and watch.message == ""
    assert "Box" in bpy.data.objects and "Box front" in bpy.data.objects
    assert follow.pump() is None  # the timer ends when there is nothing to follow
    before = len(bpy.data.objects)
    bpy.ops.ed.undo()
    assert "Box" not in bpy.data.objects
    follow.wake()
    follow.pump()
    assert "Box" not in bpy.data.objects and before > 0  # undone is undone


def test_import_can_wait(settings: bpy.types.PropertyGroup) -> None:
    settings.import_when_finished = False
    watch = play(settings, "finish")
    pump(lambda: watch.settled)
    assert watch.status == "finished" and "Box" not in bpy.data.objects


def test_a_new_folder_for_each_job(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    settings.import_when_finished = False
    first = play(settings, "finish")
    pump(lambda: first.settled)
    second = play(settings, "finish")
    assert (first.folder.name, second.folder.name) == ("statue", "statue_2")
    pump(lambda: second.settled)
    settings.output = str(tmp_path / "chosen")
    third = play(settings, "finish")
    assert third.folder == tmp_path / "chosen"


def test_beside_a_saved_file(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    bpy.context.preferences.addons[extension.MODULE].preferences.jobs_folder = ""
    capture = Path(settings.capture)
    unsaved = job_places.job_folder(bpy.context.scene, capture)
    assert unsaved.is_relative_to(extension.RESOURCES) and unsaved.name == "statue"  # the add-on's own place
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    assert job_places.job_folder(bpy.context.scene, capture) == tmp_path / "unrender" / "statue"


def test_stop(settings: bpy.types.PropertyGroup) -> None:
    watch = play(settings, "obey")
    pump(lambda: watch.status == "running")
    assert bpy.ops.unrender.control(request="stop") == {"FINISHED"}
    pump(lambda: watch.settled)
    assert watch.status == "stopped"
    assert bpy.ops.unrender.reconstruct.poll()
    assert not bpy.ops.unrender.control.poll()


def test_pause_and_finish_now(settings: bpy.types.PropertyGroup) -> None:
    settings.import_when_finished = False
    watch = play(settings, "obey")
    pump(lambda: watch.status == "running")
    bpy.ops.unrender.control(request="pause")
    pump(lambda: watch.status == "paused")
    bpy.ops.unrender.control(request="resume", folder=str(watch.folder))
    pump(lambda: watch.status == "running")
    bpy.ops.unrender.control(request="finish")
    pump(lambda: watch.settled)
    assert watch.status == "finished"


@pytest.mark.parametrize("capture,word", [("", "Choose the capture"), ("/nowhere/at/all", "does not exist")])
def test_refusals_say_why(settings: bpy.types.PropertyGroup, capture: str, word: str) -> None:
    settings.capture = capture
    assert word in reconstruct.why_not(bpy.context.scene)
    assert not bpy.ops.unrender.reconstruct.poll()


def test_a_failure_shows_its_message(settings: bpy.types.PropertyGroup) -> None:
    watch = play(settings, "refuse")
    pump(lambda: watch.settled)
    assert watch.status == "failed" and "no photographs" in watch.message


def test_a_damaged_result_is_told_and_leaves_the_timer_alive(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    damaged = tmp_path / "statue" / "result"
    damaged.unlink()
    damaged.mkdir()
    (damaged / "asset.glb").write_bytes(b"not a mesh")
    watch = play(settings, "finish")
    pump(lambda: watch.settled and not watch.import_wanted)
    assert watch.status == "finished" and watch.message
    assert len(bpy.data.objects) == 0


def test_loading_another_file_keeps_the_job(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    blend = tmp_path / "file.blend"
    watch = play(settings, "obey")
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    bpy.ops.wm.read_homefile(use_empty=True)
    assert bpy.context.scene.unrender.job_folder == ""
    pump(lambda: watch.status == "running")
    assert follow.job_of(bpy.context.scene) is watch  # still shown: it is at work
    bpy.ops.unrender.control(request="finish")
    pump(lambda: watch.settled)
    assert "open its scene" in watch.message and len(bpy.data.objects) == 0  # not into somebody else's scene
    assert follow.pump() is None
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert follow.job_of(bpy.context.scene) is watch
    follow.pump()
    assert "Box" in bpy.data.objects and watch.message == ""


def test_a_new_blender_finds_the_job_again(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    blend = tmp_path / "file.blend"
    watch = play(settings, "obey")
    pump(lambda: watch.status == "running")
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    follow.WATCHES.clear()  # all that a Blender forgets when it ends
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    again = follow.job_of(bpy.context.scene)
    assert again is not None and again is not watch and again.process is None
    follow.WATCHES.clear()
    bpy.ops.wm.read_homefile(use_empty=True)
    follow.find_jobs()  # without the file: by the note of running jobs
    again = follow.WATCHES[watch.folder]
    pump(lambda: again.status == "running")
    assert follow.job_of(bpy.context.scene) is again
    bpy.ops.unrender.control(request="stop")
    pump(lambda: again.settled)
    assert again.status == "stopped"
    follow.WATCHES.clear()
    follow.find_jobs()
    assert follow.WATCHES == {}  # ended jobs are not brought up again
    assert watch.process is not None
    watch.process.wait()


def test_find_job(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no job"):
        bpy.ops.unrender.find_job(directory=str(tmp_path))
    watch = play(settings, "finish")
    pump(lambda: watch.settled)
    follow.WATCHES.clear()
    settings.job_folder = ""
    assert bpy.ops.unrender.find_job(directory=str(watch.folder)) == {"FINISHED"}
    again = follow.job_of(bpy.context.scene)
    assert again is not None
    pump(lambda: again.status == "finished")
    assert bpy.data.objects.find("Box") >= 0


def test_a_region_that_was_moved_is_collected_first(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    settings.import_when_finished = False
    source = native(tmp_path / "photos")
    bpy.ops.unrender.open_capture(filepath=str(source))
    first = play_opened(settings)
    assert first == source  # untouched, it is taken as it is
    region = settings.collect.region
    region.location.x += 0.5
    bpy.context.view_layer.update()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file.blend"))  # the last report is not needed
    settings = bpy.context.scene.unrender
    second = play_opened(settings)
    assert second == tmp_path / "unrender" / "captures" / "file"
    np.testing.assert_allclose(read_capture(second).bounds, [[-0.5, -2.0, -0.5], [1.5, 2.0, 1.5]], atol=1e-6)
    assert play_opened(settings) == second
    settings.capture = str(source)  # by hand: what stands in the scene is another
    assert play_opened(settings) == source
    settings.capture = str(second)
    settings.collect.region.location.x += 0.5
    bpy.data.objects.remove(bpy.data.objects["photos 0"])
    bpy.data.objects.remove(bpy.data.objects["photos 1"])
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="nothing was collected"):
        bpy.ops.unrender.reconstruct()


def play_opened(settings: bpy.types.PropertyGroup) -> Path:
    """Reconstructs what stands in the scene; the capture that the backend was given."""
    assert bpy.ops.unrender.reconstruct() == {"FINISHED"}
    watch = list(follow.WATCHES.values())[-1]
    assert watch.process is not None
    arguments = list(watch.process.args)
    watch.process.kill()
    watch.process.wait()
    pump(lambda: watch.settled)
    return Path(arguments[arguments.index("reconstruct") + 1])


def test_a_missing_python_is_named(settings: bpy.types.PropertyGroup) -> None:
    bpy.context.preferences.addons[extension.MODULE].preferences.python = "/nowhere/python"
    with pytest.raises(RuntimeError, match="Backend Python"):
        bpy.ops.unrender.reconstruct()


def test_preferences_reach_the_backend(settings: bpy.types.PropertyGroup, tmp_path: Path) -> None:
    preferences = bpy.context.preferences.addons[extension.MODULE].preferences
    preferences.home = str(tmp_path / "home")
    environ = job_places.environ(bpy.context)
    preferences.home = ""
    assert environ == {"UNRENDER_HOME": str(tmp_path / "home"), "UNRENDER_PYTHON": preferences.python}


def test_blenders_own_python_is_the_default() -> None:
    (program,) = job_places.python(bpy.context)
    assert Path(program).is_file()


def test_a_tick_is_short(settings: bpy.types.PropertyGroup) -> None:
    watch = play(settings, "garbage")
    worst = 0.0
    settings.import_when_finished = watch.import_wanted = False
    deadline = time.monotonic() + 20
    while not watch.settled and time.monotonic() < deadline:
        began = time.perf_counter()
        follow.pump()
        worst = max(worst, time.perf_counter() - began)
        time.sleep(0.002)
    assert watch.status == "finished"
    assert worst < 0.25  # about 5 ms on an idle machine; this one is not
