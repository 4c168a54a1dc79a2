# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `install`: its events, its self-test, and what it does when that fails."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend import environment
from backend.__main__ import make_parser
from backend.commands import install
from backend.environment import Environment
from backend.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
HAS_TORCH = importlib.util.find_spec("torch") is not None


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("UNRENDER_")}
    return subprocess.run(
        [sys.executable, "-m", "backend", "install", *arguments],
        cwd=ROOT,
        env={**environ, "UNRENDER_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_a_test_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path / "home", "--test-only", "--events", str(tmp_path / "events"))
    assert result.returncode == 2 and "not usable: not there" in result.stderr.splitlines()[-1]
    *_, last = events(tmp_path / "events")
    assert last["event"] == "failed" and "Install it." in last["message"]
    assert not (tmp_path / "home" / "environments").exists()


def test_offline_the_refusal_says_what_to_do(tmp_path: Path) -> None:
    result = run(tmp_path / "home", UNRENDER_OFFLINE="1")
    assert result.returncode == 2 and "Allow online access" in result.stderr
    assert not list((tmp_path / "home" / "environments").glob("backend-*"))


@pytest.mark.skipif(os.name != "posix", reason="uses a shell script in place of Python")
def test_a_crash_of_the_self_test_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\ncase "$*" in *selftest*) echo no such driver >&2; kill -SEGV $$;; esac\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    home = tmp_path / "home"
    result = run(home, "--events", str(home / "install"), UNRENDER_PYTHON=str(python))
    assert result.returncode == 2 and "self-test failed: no such driver" in result.stderr.splitlines()[-1]
    assert events(home / "install")[-1]["event"] == "failed"
    assert environment.read_json(environment.own_python_note(home)) == {
        "python": str(python),
        "passed": False,
        "reason": "no such driver",
    }


@pytest.mark.skipif(not HAS_TORCH, reason="needs the backend's environment")
def test_the_self_test_reconstructs_and_tells_how_far_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    compiled = environment.home() / "cache"
    compiled.mkdir(parents=True, exist_ok=True)
    (home / "cache").symlink_to(compiled)  # the kernels of earlier tests
    before = sorted(path.relative_to(ROOT) for path in ROOT.glob("backend/**/*"))
    result = run(home, "--events", str(home / "install"), UNRENDER_PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1")
    assert result.returncode == 0, result.stderr
    started, *progress, finished = events(home / "install")
    assert (started["event"], finished["event"]) == ("started", "finished")
    steps = [event["step"] for event in progress]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 1000
    assert all(event["text"] and event["seconds_left"] >= 0 for event in progress)
    note = environment.read_json(environment.own_python_note(home))
    assert note["passed"] and note["python"] == sys.executable and note["psnr"] > 20
    assert sorted(path.relative_to(ROOT) for path in ROOT.glob("backend/**/*")) == before


@pytest.mark.parametrize(
    ("fails", "options", "does"),
    [
        (0, [], ["test"]),
        (1, [], ["test"]),
        (1, ["--repair"], ["test", "clear", "test"]),
        (2, ["--repair"], ["test", "clear", "test", "its self-test fails", "test"]),
        (3, ["--repair"], ["test", "clear", "test", "its self-test fails", "test"]),
    ],
)
def test_repair_tries_what_costs_least_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int, options: list[str], does: list[str]
) -> None:
    monkeypatch.setenv("UNRENDER_HOME", str(tmp_path))
    monkeypatch.delenv("UNRENDER_PYTHON", raising=False)
    kernels = tmp_path / "cache" / "warp"
    kernels.mkdir(parents=True)
    backend = Environment(environment.BACKEND)
    backend.folder.mkdir(parents=True)
    done: list[str] = []

    def self_test(*_: object) -> dict[str, Any]:
        if not kernels.exists() and "clear" not in done:
            done.append("clear")
        done.append("test")
        passed = done.count("test") > fails
        return {"passed": passed, **({"device": "cpu"} if passed else {"reason": "no luck"})}

    def ensure(*_: object, spoiled: str = "", **__: object) -> Path:
        if spoiled:
            done.append(spoiled)
        return backend.interpreter

    monkeypatch.setattr(install, "_self_test", self_test)
    monkeypatch.setattr(environment, "ensure_backend", ensure)
    check = {"torch": "2", "warp": "1", "cuda": False, "device": "cpu"}
    monkeypatch.setattr(Environment, "stamp", lambda self: {"check": check})
    parsed = make_parser().parse_args(["install", *options])
    if done_in_the_end := does.count("test") > fails:
        assert install.run(parsed) == 0
    else:
        with pytest.raises(UserError, match="the self-test failed: no luck"):
            install.run(parsed)
    assert done == does
    assert backend.self_test()["passed"] == done_in_the_end
