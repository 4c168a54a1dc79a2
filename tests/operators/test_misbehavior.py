# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend that does everything wrong: Blender's tick stays short, never raises, and ends up with the truth."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import bpy
import pytest
from bl_ext.dev.unrender.backend.errors import UserError
from bl_ext.dev.unrender.operators import follow, job_process
from bl_ext.dev.unrender.operators.job_text import LONGEST_TEXT
from bl_ext.dev.unrender.operators.jobs import JobWatch

from tests.operators.stand_in_backend import STAGES
from tests.operators.test_reconstruct import play, settings

__all__ = ("settings",)

Settings = bpy.types.PropertyGroup
LONGEST_TICK = 0.25  # typically 5 ms; the machine may be busy


def pump(until: Callable[[], bool], seconds: float = 20) -> float:
    """Ticks as Blender's timer does until the condition holds; the seconds of the longest tick."""
    worst = 0.0
    deadline = time.monotonic() + seconds
    while not until():
        for watch in follow.WATCHES.values():
            watch._next_alive_check = 0.0  # do not wait two seconds to see a process end
        began = time.perf_counter()
        follow.pump()
        worst = max(worst, time.perf_counter() - began)
        for watch in follow.WATCHES.values():
            check_shown(watch)
        assert time.monotonic() < deadline, [(watch.status, watch.message) for watch in follow.WATCHES.values()]
        time.sleep(0.002)
    return worst


def check_shown(watch: JobWatch) -> None:
    """What a panel reads while it draws."""
    for text in (watch.stage, watch.message, watch.said, *watch.warnings):
        assert len(text) <= LONGEST_TEXT
    assert 0 <= watch.fraction <= 1
    assert all(value is None or isinstance(value, float) for value in (watch.psnr, watch.seconds_left, watch.memory))
    assert watch.preview is None or watch.preview.parent == watch.folder / "preview"


def run(settings: Settings, scenario: str) -> JobWatch:
    """Plays a scenario to its end."""
    settings.import_when_finished = False
    watch = play(settings, scenario)
    assert pump(lambda: watch.settled) < LONGEST_TICK
    return watch


@pytest.mark.parametrize("scenario", ["garbage", "flood", "half", "slow"])
def test_what_it_writes_is_survived(settings: Settings, scenario: str) -> None:
    watch = run(settings, scenario)
    assert watch.status == "finished" and watch.message == ""
    if scenario != "slow":
        assert (watch.stage, watch.fraction) == ("surface", 0.75)


@pytest.mark.parametrize("how", ["truncated", "replaced", "vanished", "a pipe", "a folder"])
def test_an_events_file_that_changes_under_us(settings: Settings, how: str) -> None:
    if how == "a pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    watch = run(settings, f"other {how}")
    assert watch.status == "finished"
    assert (watch.stage, watch.psnr) == ("surface", 27.25)
    if how != "truncated":
        assert watch.warnings == []  # the new run's


@pytest.mark.parametrize("when", ["at once", "before events"])
def test_a_crash_before_the_first_event(settings: Settings, when: str) -> None:
    watch = run(settings, f"crash {when}")
    assert watch.status == "failed" and "it went wrong" in watch.message
    assert not watch.has_result


@pytest.mark.parametrize("stage", [*STAGES, "a line", "half a result"])
def test_a_crash_at_any_stage(settings: Settings, stage: str) -> None:
    watch = run(settings, f"crash {stage}")
    assert watch.status == "died" and "exit code 3" in watch.message
    assert watch.stage == (stage if stage in STAGES else "export")
    assert not watch.has_result
    again = JobWatch(watch.folder)  # as a Blender that comes later
    while again.poll() or again.active:
        again._next_alive_check = 0.0
    assert again.status == "died" and again.stage == watch.stage


def test_a_crash_after_the_result_loses_nothing(settings: Settings) -> None:
    watch = run(settings, "crash after the result")
    assert watch.status == "died" and watch.has_result
    assert bpy.ops.unrender.import_result(directory=str(watch.result)) == {"FINISHED"}
    assert "Box" in bpy.data.objects


def test_a_hanging_job_can_be_ended_with_its_children(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = play(settings, "hang")
    pump(lambda: watch.status == "running")
    assert not watch.deaf
    monkeypatch.setattr("bl_ext.dev.unrender.operators.jobs.PATIENCE_SECONDS", 0.2)
    assert bpy.ops.unrender.control(request="stop") == {"FINISHED"}
    assert pump(lambda: watch.deaf) < LONGEST_TICK  # it was asked, and does not answer
    assert watch.active and watch.silent_seconds > 0
    child = int((watch.folder / "child").read_text())
    assert bpy.ops.unrender.end_job(folder=str(watch.folder)) == {"FINISHED"}
    pump(lambda: watch.settled)
    assert watch.status == "stopped" and watch.asked is None
    deadline = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(RuntimeError, match="no job is at work"):
        bpy.ops.unrender.end_job(folder=str(watch.folder))


def test_a_hanging_job_of_another_blender_can_be_ended(settings: Settings) -> None:
    first = play(settings, "hang")
    pump(lambda: first.status == "running" and (first.folder / "child").exists())
    follow.WATCHES.clear()
    again = follow.attach(first.folder)
    assert again is not None and again.process is None
    pump(lambda: again.status == "running")
    again.end_process()
    assert first.process is not None
    first.process.wait(5)
    pump(lambda: not again.active)
    assert again.status == "stopped"


def test_a_job_that_only_prepares_shows_its_words_and_can_be_ended(settings: Settings) -> None:
    watch = play(settings, "silent")
    pump(lambda: watch.said == "torch 17%")
    assert watch.status == "starting" and watch.deaf
    assert bpy.ops.unrender.end_job(folder=str(watch.folder)) == {"FINISHED"}
    pump(lambda: watch.settled)
    assert watch.status == "stopped"


def test_nobody_elses_process_is_ended(tmp_path: Path) -> None:
    for claim in (
        json.dumps({"pid": os.getpid(), "started": "0", "host": "another machine", "at": 0}),
        json.dumps({"pid": -1, "started": "", "host": socket.gethostname(), "at": 0}),
        "[" * 100_000,
        "[]",
    ):
        (tmp_path / "claim.json").write_text(claim)
        assert job_process.pid_here(tmp_path) == 0
        with pytest.raises(UserError, match="not on this machine"):
            JobWatch(tmp_path).end_process()
    for pid in (-1, 0, 1):
        job_process.end(pid)  # would be everybody, ourselves, or the system


def test_a_sleep_is_no_crash(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine sleeps: processes stand still, and all clocks are hours later at once."""
    watch = play(settings, "obey")
    pump(lambda: watch.status == "running")
    assert watch.process is not None
    hours = 8 * 3600
    os.kill(watch.process.pid, 19)  # SIGSTOP
    real_time, real_monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: real_time() + hours)
    monkeypatch.setattr(time, "monotonic", lambda: real_monotonic() + hours)
    for _ in range(5):
        follow.pump()
    assert watch.status == "running" and watch.silent_seconds > hours - 60
    os.kill(watch.process.pid, 18)  # SIGCONT
    again = JobWatch(watch.folder)
    pump(lambda: again.poll() or again.status == "running")
    assert bpy.ops.unrender.control(request="finish") == {"FINISHED"}
    pump(lambda: watch.settled)
    assert watch.status == "finished"


def alive(pid: int) -> bool:
    """Whether a process still does something; one that ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return Path("/proc").is_dir() is False
    except OSError:
        return False
