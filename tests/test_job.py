# SPDX-License-Identifier: GPL-3.0-or-later
"""The job folder: one owner, one last event, requests obeyed, readers that survive anything in the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backend import job as job_module
from backend.errors import Stopped, UserError
from backend.job import (
    EventReader,
    Job,
    JobFolder,
    read_request,
    read_settings,
    read_state,
    tail,
    write_request,
)
from backend.processes import Claim, start_time


def kinds(folder: Path) -> list[str]:
    return [event["event"] for event in EventReader(folder).poll()]


def test_a_job_leaves_its_settings_events_and_no_claim(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    with Job(folder, {"preset": "draft"}) as job:
        assert JobFolder(folder).running_pid() == os.getpid()
        job.report("shape", 1, 10, psnr=20.12345, seconds_left=9.0)
        (job.files.preview / "a.png").touch()
        job.preview(job.files.preview / "a.png")
        job.warning("two\nlines")
    assert read_settings(folder) == {"preset": "draft"}
    events = EventReader(folder).poll()
    assert [event["event"] for event in events] == ["started", "progress", "preview", "warning", "finished"]
    assert events[1]["psnr"] == 20.123 and events[1]["seconds_left"] == 9.0
    assert events[2]["file"] == "preview/a.png"
    assert events[3]["message"] == "two lines"
    assert JobFolder(folder).running_pid() == 0
    assert read_state(folder).status == "finished"


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (Stopped(), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (UserError("bad"), "failed"),
        (ValueError("x"), "failed"),
    ],
)
def test_every_way_out_writes_exactly_one_last_event(tmp_path: Path, error: BaseException, last: str) -> None:
    with pytest.raises(type(error)), Job(tmp_path / "job", {}) as job:
        job.report("shape", 1, 2)
        raise error
    assert kinds(tmp_path / "job") == ["started", "progress", last]
    job.report("shape", 2, 2)  # too late: nothing follows the last event
    assert kinds(tmp_path / "job")[-1] == last


def test_a_second_job_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with Job(tmp_path / "job", {}) as job:
        job.report("shape", 1, 2)
        with pytest.raises(UserError, match=f"process {os.getpid()}"), Job(tmp_path / "job", {}):
            pass
        assert kinds(tmp_path / "job") == ["started", "progress"]  # and has changed nothing


def test_a_claim_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    claim = JobFolder(tmp_path).claim
    for held in ({"pid": ended.pid, "started": "1"}, {"pid": os.getpid(), "started": "not ours"}):
        claim.write_text(json.dumps({**held, "host": os.uname().nodename if hasattr(os, "uname") else ""}))
        with Job(tmp_path, {}) as job:
            job.report("shape", 1, 1)
        assert not claim.exists()


def test_only_one_of_many_processes_gets_a_claim(tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    path.write_text(json.dumps({"pid": 2**22 + 1, "started": "1", "host": "elsewhere"}))
    os.utime(path, (1.0, 1.0))  # another machine's, long abandoned
    code = (
        "import sys, time; from pathlib import Path; from backend.processes import Claim\n"
        f"got = Claim(Path({str(path)!r})).take(); print(int(got), flush=True); time.sleep(1.5)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sum(int(process.communicate()[0]) for process in running) == 1


def test_start_time_tells_processes_apart() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid()) != ""
    assert start_time(-1) == ""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert start_time(child.pid) not in ("", start_time(1))
    finally:
        child.communicate(b"\n")
    assert start_time(child.pid) == ""


def test_half_written_claims_count_for_a_moment_only(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "claim.json")
    claim.path.write_text("{")
    assert claim.owner() == -1
    os.utime(claim.path, (1.0, 1.0))
    assert claim.owner() == 0


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"), Job(tmp_path, {}):
        pass
    with pytest.raises(UserError, match="not a folder"), Job(tmp_path / "holiday.txt", {}):
        pass
    with pytest.raises(UserError, match="cannot write here"), Job(tmp_path / "holiday.txt" / "job", {}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


def test_resume_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume"), Job(tmp_path / "job", {}, resume=True):
        pass
    assert not (tmp_path / "job").exists()
    JobFolder(tmp_path / "job").checkpoint.mkdir(parents=True)
    JobFolder(tmp_path / "job").settings.touch()
    with Job(tmp_path / "job", {}, resume=True):
        pass


def test_stop_pause_resume_and_finish(tmp_path: Path) -> None:
    with pytest.raises(Stopped), Job(tmp_path, {}) as job:
        assert not job.should_stop()
        write_request(tmp_path, "pause")
        threading.Timer(0.4, write_request, (tmp_path, "resume")).start()
        job._next_poll = 0.0
        began = time.monotonic()
        job.should_stop()
        assert 0.3 < time.monotonic() - began < 2.0
        assert job.paused_seconds > 0.3
        assert not job.finish_requested
        write_request(tmp_path, "finish")
        job._next_poll = 0.0
        job.should_stop()
        assert job.finish_requested
        write_request(tmp_path, "stop")
        job._next_poll = 0.0
        job.should_stop()
    assert [event.get("paused", False) for event in EventReader(tmp_path).poll()] == [False, True, False, False]
    assert read_request(tmp_path)[0] is None  # obeyed, and gone


def test_requests_to_an_earlier_run_are_forgotten_but_not_those_since_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNRENDER_LAUNCHED", raising=False)
    write_request(tmp_path, "stop")
    with Job(tmp_path, {}) as job:
        assert not job.should_stop()
    monkeypatch.setenv("UNRENDER_LAUNCHED", str(time.time()))
    write_request(tmp_path, "stop")
    with pytest.raises(Stopped), Job(tmp_path, {}) as job:
        job.should_stop()


def test_should_stop_is_cheap(tmp_path: Path) -> None:
    with Job(tmp_path, {}) as job:
        began = time.perf_counter()
        for _ in range(10_000):
            job.should_stop()
        assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"request": 7}', '{"request": "explode"}', '{"at": []}', "\x00"])
def test_garbage_in_the_control_file_asks_nothing(tmp_path: Path, text: str) -> None:
    JobFolder(tmp_path).control.write_text(text)
    assert read_request(tmp_path)[0] is None


def test_the_reader_waits_for_whole_lines_and_skips_garbage(tmp_path: Path) -> None:
    reader = EventReader(tmp_path)
    assert reader.poll() == []
    with open(JobFolder(tmp_path).events, "wb", buffering=0) as file:
        file.write(b'{"event": "started", "run": "1"}\n{"event": "prog')
        assert [event["event"] for event in reader.poll()] == ["started"]
        assert reader.poll() == []
        file.write(b'ress"}\nnot json\n[1]\n{"no": 1}\n\xff\xfe\n{"event": "warning", "message": "w"}\n')
        assert [event["event"] for event in reader.poll()] == ["progress", "warning"]


def test_the_reader_notices_a_new_run(tmp_path: Path) -> None:
    reader = EventReader(tmp_path)
    for _ in range(2):
        with Job(tmp_path, {}) as job:
            job.report("shape", 1, 1)
        assert [event["event"] for event in reader.poll()] == ["started", "progress", "finished"]


def test_reports_are_thinned_out_but_stages_and_last_steps_are_not(tmp_path: Path) -> None:
    with Job(tmp_path, {}) as job:
        for step in range(1, 1001):
            job.report("shape", step, 1000)
        job.report("surface", 1, 10)
    steps = [(e["stage"], e["step"]) for e in EventReader(tmp_path).poll() if e["event"] == "progress"]
    assert steps[0] == ("shape", 1) and ("shape", 1000) in steps and steps[-1] == ("surface", 1)
    assert len(steps) < 100


def times_left(folder: Path) -> list[float | None]:
    return [event.get("seconds_left") for event in EventReader(folder).poll() if event["event"] == "progress"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that jobs see; sleeping passes it too."""
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(job_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(job_module.time, "sleep", sleep)
    return now


@pytest.mark.parametrize("first", [0, 700])
def test_the_time_left_is_told_once_the_pace_is_known(tmp_path: Path, clock: list[float], first: int) -> None:
    with Job(tmp_path, {}) as job:
        for step in range(first + 1, 1001):
            clock[0] += (60.0, 5.0, 5.0, 9.0, 9.0)[step - first - 1] if step <= first + 5 else 2.0
            job.report("shape", step, 1000)
        clock[0] += 60.0
        job.report("surface", 1, 100)  # its first steps compile too
    *shape, surface = times_left(tmp_path)
    unknown = shape.count(None)
    assert 5 <= unknown <= 15 and shape[:unknown] == [None] * unknown
    assert shape[unknown:] == pytest.approx([2.0 * (1000 - step) for step in range(first + 1 + unknown, 1001)])
    assert surface is None


def test_a_hiccup_hardly_changes_the_time_left_and_a_lasting_change_does(tmp_path: Path, clock: list[float]) -> None:
    with Job(tmp_path, {}) as job:
        for step in range(1, 1001):
            clock[0] += 60.0 if step == 300 else 1.0 if step <= 600 else 10.0
            job.report("shape", step, 1000)
    left = times_left(tmp_path)
    assert left[298] == pytest.approx(701.0)
    for step in range(300, 340):
        assert left[step - 1] == pytest.approx(1000 - step, rel=0.1)
    assert left[649] == pytest.approx(3500.0)


def test_the_time_left_does_not_count_pauses(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep_until_resumed(seconds: float) -> None:
        clock[0] += 1000.0
        write_request(tmp_path, "resume")

    monkeypatch.setattr(job_module.time, "sleep", sleep_until_resumed)
    with Job(tmp_path, {}) as job:
        for step in range(1, 41):
            if step == 20:
                write_request(tmp_path, "pause")
            job.should_stop()
            clock[0] += 2.0
            job.report("shape", step, 100)
    assert job.paused_seconds == pytest.approx(1000.0)
    assert times_left(tmp_path)[-1] == pytest.approx(120.0)


def test_numbers_stay_json(tmp_path: Path) -> None:
    with Job(tmp_path, {}) as job:
        job.report("shape", 1, 1, psnr=float("nan"))
    assert "NaN" not in JobFolder(tmp_path).events.read_text()


def test_events_from_many_threads_stay_whole(tmp_path: Path) -> None:
    with Job(tmp_path, {}) as job:
        threads = [threading.Thread(target=lambda: [job.warning("w" * 500) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert kinds(tmp_path).count("warning") == 200


def test_a_killed_job_counts_as_died_and_tail_ends(tmp_path: Path) -> None:
    code = (
        "import os, time; from pathlib import Path; from backend.job import Job\n"
        f"with Job(Path({str(tmp_path / 'job')!r}), {{}}) as job:\n"
        "    job.report('shape', 1, 2); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert read_state(tmp_path / "job").status == "died"
    assert [event["event"] for event in tail(tmp_path / "job", poll=0.01)] == ["started", "progress"]


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_ctrl_c_stops_after_the_step_with_a_last_event(tmp_path: Path) -> None:
    code = (
        "import time, sys; from pathlib import Path; from backend.job import Job\n"
        f"with Job(Path({str(tmp_path / 'job')!r}), {{}}) as job:\n"
        "    while not job.should_stop():\n"
        "        job.report('shape', 1, 2); time.sleep(0.02)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    while "progress" not in kinds(tmp_path / "job"):
        time.sleep(0.02)
    child.send_signal(2)
    child.communicate(timeout=10)
    assert kinds(tmp_path / "job")[-1] == "stopped"


def test_a_job_stops_with_its_parent_only_if_asked(tmp_path: Path) -> None:
    code = (
        "import time, sys; from pathlib import Path; from backend.job import Job\n"
        "from backend.errors import Stopped\n"
        f"with Job(Path({str(tmp_path / 'job')!r}), {{}}) as job:\n"
        "    if len(sys.argv) > 1: job.stop_when_stdin_closes()\n"
        "    for _ in range(40):\n"
        "        job.should_stop(); time.sleep(0.02)"
    )
    for arguments, last in ((["watch"], "stopped"), ([], "finished")):
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        child.communicate(timeout=20)  # closes its standard input at once
        assert kinds(tmp_path / "job")[-1] == last


def test_a_full_disk_while_writing_events_keeps_the_first_error(tmp_path: Path) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    with pytest.raises(OSError, match="No space"), Job(tmp_path, {}) as job:
        assert job._events is not None
        job._events.close()
        job._events = Full()  # type: ignore[assignment]
        job.report("shape", 1, 2)
    assert not JobFolder(tmp_path).claim.exists()


def test_a_file_that_is_cut_short_is_read_again(tmp_path: Path) -> None:
    path = JobFolder(tmp_path).events
    first, second = (json.dumps({"event": "warning", "message": text}) + "\n" for text in ("first", "second"))
    path.write_text(first + second * 3)
    reader = EventReader(tmp_path)
    assert len(reader.poll()) == 4 and reader.poll() == []
    path.write_text(first + second)
    assert [event["message"] for event in reader.poll()] == ["first", "second"]
    path.unlink()
    path.mkdir()
    assert reader.poll() == []


def test_the_end_is_found_behind_garbage(tmp_path: Path) -> None:
    finished = json.dumps({"event": "finished", "result": "result"}) + "\n"
    JobFolder(tmp_path).events.write_text("[" * 100_000 + "\n" + "x" * 3_000_000 + "\n" + finished)
    assert read_state(tmp_path).status == "finished"
    assert [event["event"] for event in tail(tmp_path, poll=0.01)] == ["finished"]
    reader = EventReader(tmp_path)
    assert reader.poll(1 << 16) == [] and not reader.at_end


def test_reports_tell_the_memory(tmp_path: Path) -> None:
    with Job(tmp_path, {}) as job:
        held = bytearray(50_000_000)
        job.report("shape", 1, 1)
        assert len(held)
    (progress,) = [event for event in EventReader(tmp_path).poll() if event["event"] == "progress"]
    if sys.platform != "win32":
        assert 50_000_000 < progress["memory_bytes"] < 100_000_000_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_the_events_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it comes between a look at the file and its opening."""
    os.mkfifo(JobFolder(tmp_path).events)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(EventReader(tmp_path).poll()), daemon=True)
    thread.start()
    thread.join(10)
    assert found == [[]]
