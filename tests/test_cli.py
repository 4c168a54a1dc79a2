# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: exit codes, one line for everything that can go wrong, and nothing half-written."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend import __main__ as cli
from backend import environment
from backend.commands import demo, evaluate, reconstruct, solve
from backend.console import Console, JobPrinter, bar, clock, megabytes
from backend.errors import Stopped, UserError
from backend.job import EventReader, Job, JobFolder

ROOT = environment.ROOT
HAS_PIPELINE = (ROOT / "backend" / "optimization" / "pipeline.py").is_file()


def run(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as users do, in this interpreter in place of a managed environment."""
    environ = {**os.environ, "UNRENDER_PYTHON": sys.executable, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, "-m", "backend", *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_one_line(result: subprocess.CompletedProcess[str], *said: str) -> None:
    assert result.returncode == 2, result
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for text in said:
        assert text in lines[0]


def test_alone_it_prints_help_with_every_command() -> None:
    result = run()
    assert result.returncode == 0
    for command in ("demo", "install", "inspect", "solve", "reconstruct", "evaluate", "benchmark", "package"):
        assert f"\n    {command}" in result.stdout


@pytest.mark.parametrize(
    "arguments", [["explode"], ["reconstruct"], ["reconstruct", "x", "--out", "y", "--preset", "z"]]
)
def test_wrong_usage_is_one_line(arguments: list[str]) -> None:
    assert_one_line(run(*arguments), "--help")


def test_what_this_version_lacks_is_said() -> None:
    assert_one_line(run("solve", "photos", "--out", "capture"), "does not solve cameras yet")


def test_wrong_captures_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for capture in ("none", "empty"):
        result = run("reconstruct", str(tmp_path / capture), "--out", str(tmp_path / "job"))
        assert_one_line(result, str(tmp_path / capture))
        assert_one_line(run("inspect", str(tmp_path / capture)), str(tmp_path / capture))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_wrong_settings_leave_nothing_behind(tmp_path: Path) -> None:
    for pair, said in (("seed", "KEY=VALUE"), ("no_such=1", "no_such"), ("seed=lots", "seed")):
        result = run("reconstruct", str(ROOT / "demo"), "--out", str(tmp_path / "job"), "--set", pair)
        assert_one_line(result, "--set", said)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAS_PIPELINE, reason="the pipeline is not there yet")
def test_a_second_job_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with Job(tmp_path / "job", {"preset": "draft"}):
        result = run("reconstruct", str(ROOT / "demo"), "--out", str(tmp_path / "job"))
        assert_one_line(result, "another job is at work", str(os.getpid()))
    assert json.loads(JobFolder(tmp_path / "job").settings.read_text()) == {"preset": "draft"}


@pytest.mark.skipif(not HAS_PIPELINE, reason="the pipeline is not there yet")
def test_an_output_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "job"):
        assert_one_line(run("reconstruct", str(ROOT / "demo"), "--out", str(out)), str(out))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not HAS_PIPELINE or os.name != "posix", reason="sends POSIX signals to the pipeline")
def test_ctrl_c_ends_a_reconstruction_with_130_and_a_last_event(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "backend", "reconstruct", str(ROOT / "demo"), "--out", str(tmp_path / "job")]
    command += ["--preset", "draft", "--device", "cpu", "--max-size", "64", "--set", "grid_cells=32"]
    environ = {**os.environ, "UNRENDER_PYTHON": sys.executable}
    child = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)
    reader, seen = EventReader(tmp_path / "job"), []
    deadline = time.monotonic() + 120
    while not any(event["event"] == "progress" for event in seen) and child.poll() is None:
        assert time.monotonic() < deadline
        seen += reader.poll()
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    seen += reader.poll()
    assert child.returncode == 130, errors
    assert [event["event"] for event in seen if event["event"] in ("finished", "failed", "stopped")] == ["stopped"]
    assert not (tmp_path / "job" / "result").exists()
    assert "Traceback" not in errors


def test_inspect_says_what_the_demo_capture_holds(tmp_path: Path) -> None:
    result = run("inspect", str(ROOT / "demo"), cwd=tmp_path)
    assert result.returncode == 0 and "train" in result.stdout
    assert json.loads(run("inspect", "--json", str(ROOT / "demo")).stdout)["splits"]


def test_evaluate_needs_a_result(tmp_path: Path) -> None:
    assert_one_line(run("evaluate", str(tmp_path), str(ROOT / "demo")), "no result here", "report.json")


def test_modules_in_the_current_folder_do_not_get_in(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('hijacked')")
    assert run("inspect", str(ROOT / "demo"), cwd=tmp_path).returncode == 0


def test_a_named_python_that_lacks_torch_is_one_line(tmp_path: Path) -> None:
    if shutil.which("sh") is None:
        pytest.skip("needs a shell")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho torch\n")
    python.chmod(0o755)
    assert_one_line(run("inspect", str(ROOT / "demo"), UNRENDER_PYTHON=str(python)), "UNRENDER_PYTHON", "without torch")


# ---- in this process


@pytest.fixture
def solve_raising(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[BaseException], int]:
    """Runs a command that raises; returns the exit code."""
    monkeypatch.setenv("UNRENDER_HOME", str(tmp_path))
    monkeypatch.setenv("UNRENDER_LAUNCHED", "0")  # main() sets it for the rest of the process

    def raising(error: BaseException) -> int:
        def run_command(options: object) -> int:
            raise error

        monkeypatch.setattr(solve, "run", run_command)
        return cli.main(["solve", "photos", "--out", "capture"])

    return raising


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("wrong", where="a.png", expected="b", found="c"), 2, "unrender: a.png: wrong; expected b, found c."),
        (Stopped(), 130, "unrender: stopped"),
        (KeyboardInterrupt(), 130, "unrender: stopped"),
        (MemoryError(), 2, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "result/x"), 2, "result/x: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "out: Permission denied"),
    ],
)
def test_each_way_out_has_its_code_and_one_line(
    solve_raising: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    assert solve_raising(error) == code
    output = capsys.readouterr()
    assert said in output.err and len(output.err.splitlines()) == 1 and not output.out


def test_a_defect_of_ours_is_one_line_that_names_a_log(
    solve_raising: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert solve_raising(ZeroDivisionError("oh\nno")) == 1
    line = capsys.readouterr().err
    (log,) = (tmp_path / "logs").glob("error-*.log")
    assert str(log) in line and len(line.splitlines()) == 1
    assert "Traceback" in log.read_text() and "ZeroDivisionError" in log.read_text()


class Replaced(Exception):
    """Raised in place of becoming another process."""


@pytest.fixture
def replacing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Collects the command and environment of each process that ours would have become."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def replace(command: list[str], environ: dict[str, str]) -> None:
        calls.append((command, environ))
        raise Replaced

    monkeypatch.setattr(cli, "replace_process", replace)
    monkeypatch.delenv("UNRENDER_PYTHON", raising=False)
    return calls


def test_commands_that_need_torch_continue_in_the_environment(
    replacing: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        environment, "ensure_backend", lambda console, verify: asked.append(verify) or Path("/managed/python")
    )
    for verify in ("", "1"):
        monkeypatch.setenv(cli.VERIFY, verify)
        monkeypatch.setenv(cli.INSIDE, "")
        with pytest.raises(Replaced):
            cli._continue_inside(["inspect", "x"])
        command, environ = replacing[-1]
        assert command == ["/managed/python", "-P", "-m", "backend", "inspect", "x"]
        assert environ[cli.INSIDE] == "/managed/python" and environ["PYTHONPATH"] == str(ROOT)
    assert asked == [False, True]
    monkeypatch.setenv(cli.INSIDE, sys.executable)
    cli._continue_inside(["inspect", "x"])  # we are there
    assert len(replacing) == 2


def test_a_failed_import_repairs_the_environment_once(
    replacing: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cli.INSIDE, sys.executable)
    monkeypatch.setenv(cli.VERIFY, "0")
    with pytest.raises(Replaced):
        cli._repair(ImportError("broken", name="torch._C"), ["inspect", "x"])
    command, environ = replacing[-1]
    assert command[1:] == ["-P", "-m", "backend", "inspect", "x"] and environ[cli.VERIFY] == "1"
    cli._repair(ImportError("ours", name="backend.nowhere"), ["inspect", "x"])
    monkeypatch.setenv(cli.VERIFY, "2")
    cli._repair(ImportError("still broken", name="torch._C"), ["inspect", "x"])
    assert len(replacing) == 1


def test_settings_from_the_command_line() -> None:
    options = SimpleNamespace(rasterizer="warp", seed=0, max_size=None, holdout=None)
    options.sets = ["texture-size=512", "light=sh", "bounce=false", "transport-size=16"]
    options.without = ["shadows"]
    found = reconstruct.overrides(options)  # type: ignore[arg-type]
    assert found == {
        "rasterizer": "warp",
        "seed": 0,
        "texture_size": 512,
        "light": "sh",
        "bounce": False,
        "transport_size": 0,  # what is turned off stays off
    }


def test_evaluate_finds_the_result_and_the_holdout_of_its_job(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.result.mkdir()
    (folder.result / "report.json").write_text("{}")
    folder.settings.write_text(json.dumps({"overrides": {"holdout": 8}}))
    for path in (tmp_path, folder.result):
        assert evaluate.result_folder(path) == folder.result
        assert evaluate.job_holdout(path) == 8


def test_the_demo_says_in_one_line_why_blender_failed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no luck"):
        demo._run([sys.executable, "-c", "import sys; sys.exit('first\\nno luck')"], dict(os.environ), False)
    with pytest.raises(Stopped):
        demo._run([sys.executable, "-c", "import sys; sys.exit(130)"], dict(os.environ), False)
    assert demo._run([sys.executable, "-c", "print(1)"], dict(os.environ), False) == "1\n"


def test_a_time_left_that_is_not_known_is_not_shown() -> None:
    stream = io.StringIO()
    printer = JobPrinter(Console(stream))
    for stage, more in (("carve", {}), ("shape", {"seconds_left": None}), ("surface", {"seconds_left": 65.0})):
        printer({"event": "progress", "stage": stage, "step": 1, "steps": 2, "psnr": 20.0, **more})
    without, null, told = stream.getvalue().splitlines()
    assert without.endswith("1/2, 20.0 dB") and null.endswith("1/2, 20.0 dB")
    assert told.endswith("1/2, 20.0 dB, 1:05 left")


def test_progress_on_a_terminal_is_one_line_and_elsewhere_few(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, most in ((Terminal(), 1), (io.StringIO(), 4)):
        console = Console(stream)
        printer = JobPrinter(console)
        for stage in ("shape", "surface"):
            for step in range(100):
                printer({"event": "progress", "stage": stage, "step": step, "steps": 100, "psnr": 20.0})
        printer({"event": "warning", "message": "careful"})
        printer({"event": "finished"})
        assert stream.getvalue().count("\n") <= most
        assert "warning: careful\n" in stream.getvalue()
    assert (clock(65), clock(3723), megabytes(2.5e9), bar(0.5, 4)) == ("1:05", "1:02:03", "2.5 GB", "[##..]")
