# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a job by its files, whatever it writes and however it ends."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bl_ext.dev.unrender.backend.errors import UserError
from bl_ext.dev.unrender.operators import job_notes, jobs
from bl_ext.dev.unrender.operators.job_text import LONGEST_TEXT, last_line, time_left
from bl_ext.dev.unrender.operators.jobs import JobWatch

STAND_IN = Path(__file__).with_name("stand_in_backend.py")


@pytest.fixture
def start(tmp_path: Path, result: Path) -> Callable[[str], JobWatch]:
    """Starts the stand-in with a scenario."""

    def launch(scenario: str, options: tuple[str, ...] = ()) -> JobWatch:
        capture = tmp_path / "capture"
        capture.mkdir(exist_ok=True)
        (capture / "scenario").write_text(scenario)
        if not (capture / "result").exists():
            (capture / "result").symlink_to(result)
        log = tmp_path / "logs" / "job.log"
        return jobs.launch([sys.executable, str(STAND_IN)], tmp_path, capture, tmp_path / "job", log, options)

    return launch


def follow(watch: JobWatch, until: Callable[[JobWatch], bool], seconds: float = 20) -> None:
    """Polls as the timer does until the condition holds."""
    deadline = time.monotonic() + seconds
    while not until(watch):
        watch._next_alive_check = 0.0  # do not wait two seconds to see a process end
        watch.poll()
        assert time.monotonic() < deadline, f"{watch.status}: {watch.message}"
        time.sleep(0.005)


def ended(watch: JobWatch) -> bool:
    return not watch.active


def test_a_job_runs_to_its_end(start: Callable[..., JobWatch]) -> None:
    watch = start("finish", ("--preset", "draft"))
    assert watch.status == "starting" and watch.active
    follow(watch, lambda w: w.psnr is not None)
    assert (watch.stage, watch.fraction, watch.psnr, watch.seconds_left) == ("shape", 0.25, 20.5, 90)
    follow(watch, ended)
    assert watch.status == "finished" and watch.message == ""
    assert (watch.result / "asset.glb").is_file()
    started = json.loads((watch.folder / "events.jsonl").read_text().splitlines()[0])
    assert started["options"] == ["--preset", "draft"]


def test_garbage_is_survived(start: Callable[..., JobWatch]) -> None:
    watch = start("garbage")
    longest = 0.0
    deadline = time.monotonic() + 20
    while not (watch.status == "finished" and watch.settled):
        began = time.perf_counter()
        watch.poll()
        for text in (watch.stage, watch.message, *watch.warnings):
            assert len(text) <= LONGEST_TEXT
        assert 0 <= watch.fraction <= 1
        longest = max(longest, time.perf_counter() - began)
        assert time.monotonic() < deadline, watch.status
        time.sleep(0.002)
    assert (watch.stage, watch.fraction, watch.psnr) == ("surface", 0.75, 27.25)
    assert longest < 0.25  # typically 5 ms; the machine may be busy


def test_a_crash_is_told_with_the_logs_last_line(start: Callable[..., JobWatch]) -> None:
    watch = start("crash shape")
    follow(watch, ended)
    assert watch.status == "died"
    assert "exit code 3" in watch.message and "it went wrong" in watch.message


def test_a_refusal_before_the_job_began_is_told(start: Callable[..., JobWatch]) -> None:
    watch = start("refuse")
    follow(watch, ended)
    assert watch.status == "failed"
    assert watch.message.endswith("no photographs; expected at least 3, found 0. Choose another folder.")


def test_the_failed_events_message_is_shown(start: Callable[..., JobWatch]) -> None:
    watch = start("fail")
    follow(watch, ended)
    assert watch.status == "failed"
    assert watch.message.startswith("photo_7.png: cannot be decoded.") and len(watch.message) <= LONGEST_TEXT


def test_pause_resume_stop(start: Callable[..., JobWatch]) -> None:
    watch = start("obey")
    follow(watch, lambda w: w.status == "running")
    watch.request("pause")
    assert watch.asked == "pause"
    follow(watch, lambda w: w.status == "paused")
    assert watch.asked is None and watch.active
    watch.request("resume")
    follow(watch, lambda w: w.status == "running")
    assert watch.asked is None
    watch.request("stop")
    follow(watch, ended)
    assert watch.status == "stopped" and watch.asked is None


def test_finish_now(start: Callable[..., JobWatch]) -> None:
    watch = start("obey")
    follow(watch, lambda w: w.status == "running")
    watch.request("finish")
    follow(watch, ended)
    assert watch.status == "finished"


def test_a_slow_exit_holds_nothing_up(start: Callable[..., JobWatch]) -> None:
    watch = start("slow")
    follow(watch, ended)
    assert watch.status == "finished" and not watch.settled  # the result is there before the process is gone
    follow(watch, lambda w: w.settled)


def test_a_job_is_found_again_by_its_folder(start: Callable[..., JobWatch]) -> None:
    first = start("obey")
    follow(first, lambda w: w.status == "running")
    again = JobWatch(first.folder)  # as another Blender would
    follow(again, lambda w: w.status == "running")
    assert again.stage == "shape" and again.process is None
    again.request("stop")
    follow(again, ended)
    assert again.status == "stopped"


def test_a_killed_job_is_noticed_by_who_did_not_start_it(start: Callable[..., JobWatch]) -> None:
    first = start("hang")
    again = JobWatch(first.folder)
    follow(again, lambda w: w.status == "running")
    assert first.process is not None
    first.process.kill()
    first.process.wait()
    follow(again, ended)
    assert again.status == "died"


def test_an_earlier_runs_end_is_not_taken_for_ours(start: Callable[..., JobWatch]) -> None:
    follow(start("finish"), lambda w: w.settled)
    watch = start("obey")
    (stale,) = (json.loads(line) for line in (watch.folder / "events.jsonl").read_text().splitlines()[-1:])
    watch.poll()
    assert watch.active, stale
    follow(watch, lambda w: w.status == "running")
    watch.request("stop")
    follow(watch, ended)


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot start"):
        jobs.launch([str(tmp_path / "python")], tmp_path, tmp_path, tmp_path / "job", tmp_path / "log")


def test_a_job_folder_that_is_gone(tmp_path: Path) -> None:
    watch = JobWatch(tmp_path / "gone")
    assert not watch.poll() and watch.status == "none"
    with pytest.raises(UserError, match="cannot tell the job"):
        watch.request("stop")


def test_long_logs_are_read_at_their_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"noise\n" * 1_000_000 + b"\xff the reason \n\n")
    assert last_line(log).endswith("the reason")
    assert last_line(tmp_path / "none") == "" and last_line(None) == ""


def test_running_jobs_are_remembered(tmp_path: Path) -> None:
    register, folder = tmp_path / "register", tmp_path / "job"
    assert job_notes.remembered(register) == []
    folder.mkdir()
    job_notes.remember(register, folder)
    job_notes.remember(register, tmp_path / "gone")
    (register / "damaged.json").write_text("{")
    assert job_notes.remembered(register) == [folder]
    job_notes.forget(register, folder)
    job_notes.forget(register, folder)
    assert job_notes.remembered(register) == []


@pytest.mark.parametrize("seconds,text", [(-3, "0 s"), (25.4, "25 s"), (240, "4 min"), (7800, "2 h 10 min")])
def test_time_left_in_words(seconds: float, text: str) -> None:
    assert time_left(seconds) == text
