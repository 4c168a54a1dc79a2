# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructions wait for their turn, in any Blender, whatever becomes of the one that put them there."""

import json
import os
import time
from pathlib import Path

import bpy
import pytest
from bl_ext.dev.unrender.backend.errors import UserError
from bl_ext.dev.unrender.operators import follow, job_notes, job_places, queue_files, queue_jobs, scene_jobs
from bl_ext.dev.unrender.operators.queue_files import Entry

from tests.operators.test_reconstruct import play, pump, settings

__all__ = ("settings",)

Settings = bpy.types.PropertyGroup


def queue_up(settings: Settings) -> Entry:
    """Presses Reconstruct while something runs."""
    assert bpy.ops.unrender.reconstruct() == {"FINISHED"}
    return queue_jobs.WAITING[-1]


def names() -> list[str]:
    return [Path(entry.folder).name for entry in queue_jobs.WAITING]


def test_the_second_waits_for_the_first(settings: Settings) -> None:
    first = play(settings, "obey")
    pump(lambda: first.status == "running")
    entry = queue_up(settings)
    assert names() == ["statue_2"] and not Path(entry.folder).exists()
    assert settings.job_folder == entry.folder
    assert follow.job_of(bpy.context.scene) is first  # what there is to see
    for _ in range(5):
        follow._next_folder_check = 0.0
        assert follow.pump() is not None
    assert len(follow.WATCHES) == 1
    assert bpy.ops.unrender.control(request="finish") == {"FINISHED"}
    pump(lambda: len(follow.WATCHES) == 2)
    assert "Box" in bpy.data.objects  # the first one's result came, though the scene shows the second by now
    second = follow.WATCHES[Path(entry.folder)]
    assert not queue_jobs.WAITING and follow.job_of(bpy.context.scene) is second and second.import_wanted
    pump(lambda: second.status == "running")
    assert bpy.ops.unrender.control(request="finish") == {"FINISHED"}
    pump(lambda: second.settled)
    assert len([block for block in bpy.data.objects if block.type == "MESH"]) == 2


def test_reorder_remove_and_start_now(settings: Settings) -> None:
    first = play(settings, "obey")
    for _ in range(3):
        queue_up(settings)
    assert names() == ["statue_2", "statue_3", "statue_4"]
    ops = bpy.ops.unrender
    ops.queue_entry(action="up", entry=queue_jobs.WAITING[2].name)
    assert names() == ["statue_2", "statue_4", "statue_3"]
    ops.queue_entry(action="down", entry=queue_jobs.WAITING[0].name)
    assert names() == ["statue_4", "statue_2", "statue_3"]
    ops.queue_entry(action="up", entry=queue_jobs.WAITING[0].name)  # is the first already
    ops.queue_entry(action="down", entry=queue_jobs.WAITING[2].name)
    assert names() == ["statue_4", "statue_2", "statue_3"]
    gone = queue_jobs.WAITING[0]
    ops.queue_entry(action="remove", entry=gone.name)
    assert names() == ["statue_2", "statue_3"]
    with pytest.raises(RuntimeError, match="not in the queue"):
        ops.queue_entry(action="start", entry=gone.name)
    ops.queue_entry(action="start", entry=queue_jobs.WAITING[0].name)
    assert names() == ["statue_3"] and sum(watch.active for watch in follow.WATCHES.values()) == 2
    ops.queue_entry(action="remove", entry=queue_jobs.WAITING[0].name)
    assert Path(settings.job_folder).name == "statue_2"  # the scene shows the one before it again
    assert first.active


def test_a_folder_is_promised_once(settings: Settings, tmp_path: Path) -> None:
    play(settings, "obey")
    settings.output = str(tmp_path / "chosen")
    queue_up(settings)
    with pytest.raises(RuntimeError, match="waits to be"):
        bpy.ops.unrender.reconstruct()
    assert len(queue_jobs.WAITING) == 1


def test_a_new_blender_finds_the_queue(settings: Settings) -> None:
    first = play(settings, "obey")
    pump(lambda: first.status == "running")
    entry = queue_up(settings)
    follow.WATCHES.clear()  # all that a Blender forgets when it ends
    queue_jobs.WAITING.clear()
    bpy.ops.wm.read_homefile(use_empty=True)
    follow.find_jobs()
    assert names() == ["statue_2"] and not queue_jobs.is_held()  # the queue's work goes on, and so does the queue
    again = follow.WATCHES[first.folder]
    pump(lambda: again.status == "running")
    again.request("stop")
    pump(lambda: Path(entry.folder) in follow.WATCHES)
    assert first.process is not None
    first.process.wait()


def test_a_queue_that_rests_is_not_started_by_opening_blender(settings: Settings) -> None:
    (Path(settings.capture) / "scenario").write_text("obey")
    queue_jobs.add(Entry(settings.capture, str(job_places.job_folder(bpy.context.scene, Path(settings.capture)))))
    follow.find_jobs()
    assert queue_jobs.is_held()
    follow._next_folder_check = 0.0
    assert follow.pump() is None and not follow.WATCHES
    new = play(settings, "obey")  # what is wanted now does not wait for what was left
    assert new.folder.name == "statue_2" and names() == ["statue"]
    pump(lambda: new.status == "running")
    assert bpy.ops.unrender.control(request="stop") == {"FINISHED"}
    pump(lambda: new.settled)
    assert bpy.ops.unrender.start_queue() == {"FINISHED"}
    pump(lambda: len(follow.WATCHES) == 2)
    assert not bpy.ops.unrender.start_queue.poll()


def test_a_job_of_another_blender_counts(settings: Settings) -> None:
    first = play(settings, "obey")
    pump(lambda: first.status == "running")
    del follow.WATCHES[first.folder]  # as if this Blender did not know of it
    scene_jobs.withdraw(first.folder)
    entry = queue_up(settings)
    follow._next_folder_check = 0.0
    follow.pump()
    assert names() == ["statue_2"]
    first.request("stop")
    assert first.process is not None
    first.process.wait()
    pump(lambda: Path(entry.folder) in follow.WATCHES)


def test_what_another_blender_starts_is_followed_here(settings: Settings) -> None:
    first = play(settings, "obey")
    pump(lambda: first.status == "running")
    entry = queue_up(settings)
    (queue,) = [job_places.queue_folder()]
    assert queue is not None and queue_files.take(queue, entry)
    watch = queue_jobs.launch(entry)
    queue_files.remove_taken(queue, entry)
    pump(lambda: Path(entry.folder) in follow.WATCHES)
    assert follow.WATCHES[Path(entry.folder)] is not watch
    follow.WATCHES[Path(entry.folder)] = watch  # whose process the fixture ends
    assert queue_jobs.start_waiting(entry) is None  # too late


def test_one_that_cannot_start_says_so_and_the_next_goes_on(settings: Settings) -> None:
    preferences = bpy.context.preferences.addons[extension_module()].preferences
    first = play(settings, "obey")
    pump(lambda: first.status == "running")
    bad, good = queue_up(settings), queue_up(settings)
    working = preferences.python
    preferences.python = "/nowhere/python"
    first.request("stop")
    pump(lambda: Path(bad.folder) in follow.WATCHES)
    preferences.python = working
    assert follow.WATCHES[Path(bad.folder)].status == "failed"
    assert "Backend Python" in follow.WATCHES[Path(bad.folder)].message
    pump(lambda: Path(good.folder) in follow.WATCHES)
    assert follow.WATCHES[Path(good.folder)].active


def test_files(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    assert queue_files.entries(queue) == []
    one = queue_files.add(queue, Entry("capture", "one", ("--preset", "draft"), False))
    two = queue_files.add(queue, Entry("capture", "two"))
    assert queue_files.entries(queue) == [one, two]
    for number, text in enumerate(("", "{", "[]", "[" * 100_000, '{"order": "x"}', json.dumps({"folder": "three"}))):
        (queue / f"damaged{number}.json").write_text(text)
    (queue / "binary.json").write_bytes(b"\xff\xfe")
    assert queue_files.entries(queue) == [one, two]
    assert queue_files.take(queue, one) and not queue_files.take(queue, one)
    assert queue_files.entries(queue) == [two]
    old = time.time() - 1000
    os.utime(queue / f"{one.name}.taken", (old, old))  # whoever took it crashed before it could start it
    assert queue_files.entries(queue) == [one, two]
    queue_files.remove(queue, one)
    queue_files.remove(queue, one)
    assert queue_files.entries(queue) == [two]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="queue"):
        queue_files.add(tmp_path / "file", one)


def test_notes_of_other_jobs_do_not_hold_us_up(settings: Settings, tmp_path: Path) -> None:
    register = job_places.register_folder()
    assert register is not None
    (tmp_path / "ended").mkdir()
    job_notes.remember(register, tmp_path / "ended")
    assert not follow.busy_elsewhere()


def extension_module() -> str:
    from tests.operators import extension

    return extension.MODULE
