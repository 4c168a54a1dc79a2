# SPDX-License-Identifier: GPL-3.0-or-later
"""`python3 -m tests`: who gets which tests, and what the last line counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.__main__ import ROOT, Counts, read_report, run_pytest, split_arguments


def test_paths_go_to_the_interpreter_that_can_run_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = ["tests/kernels", "tests/operators", "tests/test_job.py::test_x", "-k", "mesh", "-x"]
    backend, blender, options = split_arguments(arguments)
    assert backend == ["tests/kernels", "tests/test_job.py::test_x"]
    assert blender == ["tests/operators"]
    assert options == ["-k", "mesh", "-x"]


def test_counts_are_those_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', range(3))\ndef test_passes(n): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.mark.skip(reason='why')\ndef test_skipped(): pass\n"
        "@pytest.fixture\ndef broken(): raise ValueError\n"
        "def test_error(broken): pass\n"
    )
    report = tmp_path / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--junitxml={report}", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    counts = read_report(report)
    assert str(counts) == "3 passed, 2 failed, 1 skipped"
    counts.add(Counts(passed=1))
    assert counts.passed == 4


def test_a_crash_counts_as_a_failure_and_nothing_collected_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_crash.py").write_text("import os\ndef test_crash(): os.abort()\n")
    crashed = run_pytest("crash", Path(sys.executable), ["-q", "-c", os.devnull, str(tmp_path)], dict(os.environ))
    assert crashed == Counts(failed=1)
    (tmp_path / "test_crash.py").unlink()
    nothing = run_pytest("nothing", Path(sys.executable), ["-q", "-c", os.devnull, str(tmp_path)], dict(os.environ))
    assert nothing == Counts()
