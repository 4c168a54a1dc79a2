# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping inside a stage and finishing early: what was learned so far stays, and the job goes on from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import Stopped
from backend.export.result import read_result
from backend.job import Event, Job
from backend.optimization import pipeline, progress
from backend.optimization.checkpoint import Checkpoint
from backend.optimization.progress import StageProgress
from backend.optimization.settings import Settings
from backend.optimization.shape_stage import ShapeState
from backend.optimization.timer import Timer
from tests.optimization.synthetic import SETTINGS, small_light, write_capture

# A preview in every step, by which the tests count them.
STEPS = {"shape_steps": 12, "surface_steps": 10, "texture_steps": 4, "preview_seconds": 1e-6, "grid_cells": 16}
SHOWN_BEFORE_SURFACE = 12 + 1


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("capture") / "sphere", train=6, test=1, size=32)


def run(
    capture: Path, folder: Path, act: Callable[[Job, int], None] | None = None, resume: bool = False
) -> list[Event]:
    """A small reconstruction; `act` is called with the number of previews shown so far. Its events."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if act is not None and event["event"] == "preview":
            act(job, sum(event["event"] == "preview" for event in events))

    with small_light(), Job(folder, {}, resume=resume) as job:
        job.listeners.append(listen)
        pipeline.reconstruct(capture, job, Settings.from_preset("draft", "cpu", {**SETTINGS, **STEPS}))
    return events


def stop_at(previews: int) -> Callable[[Job, int], None]:
    return lambda job, shown: job.stop() if shown == previews else None


def finish_at(previews: int) -> Callable[[Job, int], None]:
    return lambda job, shown: setattr(job, "finish_requested", True) if shown == previews else None


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint.load(folder / "checkpoint", torch.device("cpu"))


def steps_of(events: list[Event], stage: str) -> list[int]:
    return [event["step"] for event in events if event["event"] == "progress" and event["stage"] == stage]


def previews(events: list[Event]) -> int:
    return sum(event["event"] == "preview" for event in events)


def test_a_stopped_shape_stage_goes_on_from_its_step(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        run(capture, tmp_path, stop_at(5))
    kept = checkpoint(tmp_path)
    assert (kept.stage, kept.step) == ("shape", 5)
    assert {name.partition(".")[0] for name in kept.tensors} == {"sdf", "material", "light"}
    assert "sdf.hull" in kept.tensors  # the carved solid, which would take a stage to make again
    start = []
    run_stage = pipeline.run_shape_stage

    def spy(state: ShapeState, scene: Any, settings: Any, stage: StageProgress) -> None:
        tensors = {f"sdf.{key}": value.clone() for key, value in state.sdf.state_dict().items()}
        tensors |= {f"material.{key}": value.clone() for key, value in state.material.state_dict().items()}
        tensors |= {f"light.{key}": value.clone() for key, value in state.light.state_dict().items()}
        start.append((tensors, stage.first, state.sdf.band.vertices.clone()))
        run_stage(state, scene, settings, stage)

    monkeypatch.setattr(pipeline, "run_shape_stage", spy)
    events = run(capture, tmp_path, resume=True)
    ((tensors, first, band),) = start
    assert first == 5 and tensors.keys() == kept.tensors.keys()
    for name, tensor in kept.tensors.items():
        if name != "sdf.dense":  # its rim may be lifted when the band is found
            assert torch.equal(tensors[name], tensor), name
    assert float((tensors["sdf.dense"] - kept.tensors["sdf.dense"]).abs().mean()) < 1e-3
    assert len(band)
    assert previews(events) == (12 - 5) + 1 + 10 + 1
    assert read_result(tmp_path).triangles.size


def test_a_stopped_surface_stage_goes_on_with_what_it_learned(capture: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(capture, tmp_path, stop_at(SHOWN_BEFORE_SURFACE))
    before = checkpoint(tmp_path)
    assert (before.stage, before.step) == ("surface", 0)
    with pytest.raises(Stopped):
        run(capture, tmp_path, stop_at(6), resume=True)
    kept = checkpoint(tmp_path)
    assert (kept.stage, kept.step) == ("surface", 6)
    assert torch.equal(kept.tensors["triangles"], before.tensors["triangles"])
    for name in ("vertices", "material.table", "light.log_radiance"):
        assert not torch.equal(kept.tensors[name], before.tensors[name]), name
    events = run(capture, tmp_path, resume=True)
    assert not steps_of(events, "shape") and not steps_of(events, "remesh")
    assert previews(events) == (10 - 6) + 1
    seconds = json.loads((tmp_path / "result" / "report.json").read_text())["seconds"]
    assert seconds["shape"] > 0 and seconds["surface"] > kept.seconds["surface"] > 0


@pytest.mark.parametrize(("shown", "stage", "step"), [(3, "shape", 3), (SHOWN_BEFORE_SURFACE + 4, "surface", 4)])
def test_finishing_early_gives_a_result_and_leaves_the_rest_for_later(
    capture: Path, tmp_path: Path, shown: int, stage: str, step: int
) -> None:
    events = run(capture, tmp_path, finish_at(shown))
    assert events[-1]["event"] == "finished"
    assert previews(events) == shown + 1  # and one when the stage is over
    assert not steps_of(events, "texture")
    asset = read_result(tmp_path)
    assert asset.triangles.size and torch.isfinite(torch.from_numpy(asset.vertices)).all()
    kept = checkpoint(tmp_path)
    assert (kept.stage, kept.step) == (stage, step)
    events = run(capture, tmp_path, resume=True)
    assert steps_of(events, "surface")[-1] == STEPS["surface_steps"]
    assert steps_of(events, "texture")[-1] == STEPS["texture_steps"]


def test_refined_cameras_are_kept_and_end_up_in_the_result(capture: Path, tmp_path: Path) -> None:
    """Every second camera of the capture, a quarter of a degree beside where it stood."""
    off = tmp_path / "off"
    shutil.copytree(capture, off)
    document = json.loads((off / "capture.json").read_text())
    for number, view in enumerate(document["views"]):
        if view["split"] == "train":
            turn = (-1) ** number * 0.06
            pose = np.array(view["cam_to_world"])
            pose[:3, :3] = pose[:3, :3] @ [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
            view["cam_to_world"] = pose.tolist()
    (off / "capture.json").write_text(json.dumps(document))
    job = tmp_path / "job"
    with pytest.raises(Stopped):
        run(off, job, stop_at(SHOWN_BEFORE_SURFACE + 4))
    early = checkpoint(job)
    assert (early.stage, early.step) == ("shape", 4)  # of the second time, with better cameras
    with pytest.raises(Stopped):
        run(off, job, stop_at(SHOWN_BEFORE_SURFACE - 4 + 3), resume=True)
    kept = checkpoint(job)
    assert (kept.stage, kept.step) == ("surface", 3)
    assert not torch.equal(early.tensors["cameras.cam_to_world"], kept.tensors["cameras.cam_to_world"])
    given = torch.tensor([view["cam_to_world"] for view in document["views"] if view["split"] == "train"])
    assert float(kept.tensors["cameras.shift"].min()) > 0.1
    assert float((kept.tensors["cameras.cam_to_world"] - given).abs().amax((1, 2)).min()) > 1e-3
    photos = []
    run_stage = pipeline.run_surface_stage

    def spy(state: Any, scene: Any, settings: Any, stage: StageProgress) -> None:
        photos.append(scene.photos.cam_to_world)
        run_stage(state, scene, settings, stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "run_surface_stage", spy)
        events = run(off, job, resume=True)
    assert torch.equal(photos[0], kept.tensors["cameras.cam_to_world"])
    assert steps_of(events, "cameras")[-1] == 100  # once more after the surface stage
    views = json.loads((job / "result" / "cameras.json").read_text())["views"]
    refined = checkpoint(job).tensors["cameras.cam_to_world"].double().tolist()
    assert [view["cam_to_world"] for view in views if view["split"] == "train"] == refined
    held_out = [
        [view["cam_to_world"] for view in group if view["split"] == "test"] for group in (views, document["views"])
    ]
    np.testing.assert_allclose(*held_out, atol=1e-9)
    report = json.loads((job / "result" / "report.json").read_text())["cameras"]
    assert report["moved"] and report["shift_max"] >= report["shift_rms"] > 0.1


class Patient:
    """Stands in for a job that nobody disturbs."""

    finish_requested = False

    def report(self, *arguments: Any) -> None: ...

    def should_stop(self) -> bool:
        return False


def test_a_checkpoint_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    kept: list[int] = []
    seen = []
    for step in StageProgress(Patient(), "shape", first=4, keep=kept.append).steps(24):
        seen.append(step)
        clock[0] += 7.0
    assert seen == list(range(4, 24))
    assert kept == [4 + 9, 4 + 18]


def test_seconds_of_an_earlier_run_and_of_a_part_that_is_not_over() -> None:
    timer = Timer({"shape": 5.0})
    with timer.part("shape"), timer.part("inner"):
        assert timer.seconds["shape"] >= 5.0 and "inner" in timer.seconds
        first = timer.seconds["shape"]
    assert timer.seconds["shape"] >= first
    assert timer.seconds == timer.seconds
