# SPDX-License-Identifier: GPL-3.0-or-later
"""What whoever watches a job gets to see of it, from its first second to its last."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.errors import Stopped
from backend.job import Event, Job, tail
from backend.optimization import pipeline
from backend.optimization.settings import Settings
from tests.optimization.synthetic import ROOT, SETTINGS, command, small_light, variables, write_capture


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("capture") / "sphere", train=6, test=1, size=32)


def settings(**more: Any) -> Settings:
    steps = {"shape_steps": 6, "surface_steps": 4, "texture_steps": 3}
    return Settings.from_preset("draft", "cpu", {**SETTINGS, **steps, **more})


def run(capture: Path, folder: Path, resume: bool = False, **more: Any) -> list[Event]:
    """A small reconstruction in this process; its events."""
    events: list[Event] = []
    with small_light(), Job(folder, {}, resume=resume) as job:
        job.listeners.append(events.append)
        pipeline.reconstruct(capture, job, settings(**more))
    return events


def test_previews_are_announced_while_the_mesh_grows(capture: Path, tmp_path: Path) -> None:
    events = run(capture, tmp_path, preview_seconds=1e-6)
    shown = [event["file"] for event in events if event["event"] == "preview"]
    # One in each step of the two stages that move the mesh, one between them and one after them.
    assert shown == [f"preview/mesh_{number:04}.ply" for number in range(6 + 1 + 4 + 1)]
    assert sorted(path.name for path in (tmp_path / "preview").iterdir()) == ["mesh_0010.ply", "mesh_0011.ply"]
    assert not [event for event in events if event["event"] == "warning"]


def test_no_previews_where_none_are_wanted(capture: Path, tmp_path: Path) -> None:
    events = run(capture, tmp_path, preview_seconds=0)
    assert not [event for event in events if event["event"] == "preview"]
    assert not list((tmp_path / "preview").iterdir())


def test_progress_from_preparing_to_exporting(capture: Path, tmp_path: Path) -> None:
    events = run(capture, tmp_path, carve_steps=150, carve_cells=24, carve_rays=1024)
    stages = list(dict.fromkeys(event["stage"] for event in events if event["event"] == "progress"))
    expected = ["prepare", "carve", "compare", "shape", "remesh", "cameras", "surface", "atlas", "texture", "export"]
    assert stages == expected
    for stage in stages:
        last = [event for event in events if event.get("stage") == stage][-1]
        assert last["step"] == last["steps"], stage


def test_odd_masks_are_mentioned(capture: Path, tmp_path: Path) -> None:
    shutil.copytree(capture, tmp_path / "capture")
    path = tmp_path / "capture" / "images" / "02.png"
    with Image.open(path) as image:
        image.convert("RGB").save(path)
    events = run(tmp_path / "capture", tmp_path / "job")
    (warning,) = [event["message"] for event in events if event["event"] == "warning"]
    assert "02" in warning and "no mask" in warning


@pytest.mark.parametrize("stage", ["prepare", "remesh", "cameras", "atlas", "export"])
def test_parts_without_steps_can_be_stopped_too(capture: Path, tmp_path: Path, stage: str) -> None:
    job = Job(tmp_path, {})
    job.listeners.append(lambda event: job.stop() if event.get("stage") == stage else None)
    with pytest.raises(Stopped), small_light(), job:
        pipeline.reconstruct(capture, job, settings())
    assert not (tmp_path / "result").exists()
    if stage != "prepare":
        run(capture, tmp_path, resume=True)
        assert (tmp_path / "result").is_dir()


def test_the_first_progress_comes_before_the_libraries(capture: Path, tmp_path: Path) -> None:
    began = time.time()
    child = subprocess.Popen(
        command(capture, tmp_path / "job"),
        cwd=ROOT,
        env=variables(),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        first = next(event for event in tail_when_there(tmp_path / "job") if event["event"] == "progress")
    finally:
        child.kill()
        child.wait()
    assert first["stage"] == "prepare" and first["step"] == 0
    assert first["time"] - began < 5  # 0.6 on a quiet core; loading torch comes after it


def tail_when_there(job: Path) -> Iterator[Event]:
    deadline = time.monotonic() + 60
    while not (job / "events.jsonl").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return tail(job)
