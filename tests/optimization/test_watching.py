# SPDX-License-Identifier: GPL-3.0-or-later
"""What whoever watches a job gets to see of it, from its first second to its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.job import Event, Job
from backend.optimization import pipeline
from backend.optimization.settings import Settings
from tests.optimization.synthetic import SETTINGS, write_capture


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("capture") / "sphere", train=6, test=1, size=32)


def settings(**more: Any) -> Settings:
    steps = {"shape_steps": 6, "surface_steps": 4, "texture_steps": 3}
    return Settings.from_preset("draft", "cpu", {**SETTINGS, **steps, **more})


def run(capture: Path, folder: Path, resume: bool = False, **more: Any) -> list[Event]:
    """A small reconstruction in this process; its events."""
    events: list[Event] = []
    with Job(folder, {}, resume=resume) as job:
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
