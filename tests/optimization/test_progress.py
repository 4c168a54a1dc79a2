# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that report, end early when asked, and stop when told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from backend.errors import Stopped
from backend.job import EventReader, Job
from backend.optimization import progress
from backend.optimization.losses import squared_error
from backend.optimization.progress import StageProgress


class Recorder:
    """Stands in for a job."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.finish_requested = False
        self.stop_at = -1
        self.asked = 0

    def report(self, stage: str, step: int, steps: int, psnr: float | None = None) -> None:
        self.reports.append({"stage": stage, "step": step, "steps": steps, "psnr": psnr})

    def should_stop(self) -> bool:
        if self.asked == self.stop_at:
            raise Stopped
        self.asked += 1
        return False


def test_every_step_comes_once_and_the_last_report_is_the_end() -> None:
    job = Recorder()
    stage = StageProgress(job, "shape")
    assert list(stage.steps(5)) == [0, 1, 2, 3, 4]
    assert stage.steps_done == 5 and job.asked == 5
    assert job.reports[-1] == {"stage": "shape", "step": 5, "steps": 5, "psnr": None}
    assert list(StageProgress(job, "none").steps(0)) == []


def test_reports_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    job = Recorder()
    stage = StageProgress(job, "shape")
    for _ in stage.steps(10):
        clock[0] += 2.0
    assert [report["step"] for report in job.reports] == list(range(1, 11))
    job.reports.clear()
    for _ in stage.steps(1000):
        clock[0] += 0.01
    assert 5 < len(job.reports) < 30  # not a thousand


def test_the_time_left_knows_nothing_of_compilation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage in a job: half a minute for its first step, 10 ms for those that are not recorded anew."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    first, count = 500, 3000  # resumed
    with Job(tmp_path, {}) as job:
        for step in StageProgress(job, "shape", first=first).steps(count):
            clock[0] += {first: 30.0, first + 3: 8.0, 1500: 3.0}.get(step, 0.01)
    reports = [event for event in EventReader(tmp_path).poll() if event["event"] == "progress"]
    assert reports[0]["step"] == first + 1 and "seconds_left" not in reports[0]
    told = [report for report in reports if "seconds_left" in report]
    assert first < told[0]["step"] < first + 500
    for report in told:
        assert report["seconds_left"] == pytest.approx(0.01 * (count - report["step"]), rel=0.1, abs=0.1)


def test_finish_now_ends_the_stage_and_stop_the_job() -> None:
    job = Recorder()
    seen = []
    for step in StageProgress(job, "shape").steps(100):
        seen.append(step)
        job.finish_requested = step == 3
    assert seen == [0, 1, 2, 3]
    assert list(StageProgress(job, "surface").steps(100)) == []  # the stages after it too
    job.finish_requested, job.stop_at, job.asked = False, 2, 0
    with pytest.raises(Stopped):
        list(StageProgress(job, "texture").steps(100))


def test_psnr_is_measured_over_white_and_runs_with_the_views() -> None:
    stage = StageProgress(Recorder(), "shape")
    assert stage.psnr() is None
    photo = torch.zeros(1, 4, 4, 4)  # nothing: white
    gray = torch.tensor([0.9, 0.9, 0.9, 1.0]).expand(1, 4, 4, 4)
    stage.observe_error(squared_error(gray, photo))
    assert stage.psnr() == pytest.approx(20.0, abs=1e-3)
    overexposed = torch.tensor([1.5, 1.5, 1.5, 1.0]).expand(1, 4, 4, 4)
    for _ in range(100):
        stage.observe_error(squared_error(overexposed, photo))  # as bright as white can be shown
    assert (stage.psnr() or 0) > 35
    rendered = gray.clone().requires_grad_()
    stage.observe_error(squared_error(rendered, photo))
    assert rendered.grad is None and isinstance(stage.psnr(), float)
