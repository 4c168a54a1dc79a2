# SPDX-License-Identifier: GPL-3.0-or-later
"""Following pip: how far it is, how it is ended, and what becomes of what it says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from backend import provision
from backend.errors import Stopped


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: Retrying ... Failed to establish a new connection: [Errno 101]", "registry cannot be reached"),
        ("ERROR: No matching distribution found for torch==2.13.0", "has no torch==2.13.0 for this Python"),
        ("PermissionError: [Errno 13] Permission denied: 'x'", "cannot be written"),
        ("ERROR: something new", "found ERROR: something new"),
    ],
)
def test_what_pip_says_becomes_one_line(text: str, said: str) -> None:
    error = provision._problem(f"Collecting torch\n{text}\n", "pip failed", Path("env"), Path("log"))
    assert said in str(error) and "Log: log" in str(error) and "\n" not in str(error)


def test_progress_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(provision.time, "monotonic", lambda: now[0])
    run = provision.PipRun(Path("env/bin/python"), Path("log"), ["torch", "numpy", "other"])
    assert run.describe(set()).text == "looking up 0 of 3 packages"
    run.read_line("Collecting numpy==2.4.6 (from -r requirements.txt (line 3))\n")
    run.read_line("Collecting torch==2.13.0\n")
    run.read_line("  Downloading https://host/torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (30 kB)\n")
    assert run.describe(set()).text == "looking up 2 of 3 packages"
    run.read_line("Using cached numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (20.0 MB)\n")
    run.read_line("Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (800.0 MB)\n")
    now[0] += 10.0
    run.read_line("Progress 200000000 of 800000000\n")
    progress = run.describe(set())
    assert (progress.text, progress.phase) == ("downloading 2 of 3 torch (200 MB of 800 MB)", "fetching")
    # 200 MB took 10 s: 600 MB and the third package take 30, unpacking 823 MB about 20.
    assert progress.seconds_left == pytest.approx(51, abs=1)
    assert progress.share == pytest.approx(10 / 61, abs=0.01)
    run.read_line("Installing collected packages: numpy, torch\n")
    now[0] += 1.0
    assert run.describe(set()).text == "installing 1 of 2 numpy"
    last = run.describe({"numpy"})
    assert last.text == "installing 2 of 2 torch" and last.share > progress.share


@pytest.mark.skipif(os.name != "posix", reason="uses a shell script in place of Python")
def test_who_watches_pip_can_end_it(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "python"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho Collecting torch\nexec sleep 60\n")
    script.chmod(0o755)

    def report(progress: provision.Progress) -> None:
        raise Stopped("enough")

    began = time.monotonic()
    with pytest.raises(Stopped, match="enough"):
        provision.PipRun(script, tmp_path / "log", [], report).run([])
    assert time.monotonic() - began < 10


def test_missing_system_libraries_are_named_as_packages(tmp_path: Path) -> None:
    text = "ImportError: libXrender.so.1: cannot open shared object file: No such file or directory"
    assert provision.missing_libraries(text, tmp_path) == ["libXrender.so.1"]
    error = provision.library_error(["libXrender.so.1", "libEGL.so.1"], "blender")
    assert "apt-get install libxrender1 libegl1" in str(error)
