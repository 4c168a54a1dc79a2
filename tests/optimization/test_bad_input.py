# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong input at the command line of a reconstruction: exit code 2, one line that names it, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.errors import UserError
from backend.job import Job
from backend.optimization.pipeline import reconstruct
from backend.optimization.settings import Settings
from tests.capture.builders import disc, one_line, transforms, write_transforms
from tests.optimization import synthetic
from tests.optimization.synthetic import SETTINGS, contents, events, last_words

QUICK = SETTINGS | {"shape_steps": 2, "surface_steps": 2, "texture_steps": 2, "grid_cells": 16}


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Six views of a disc with an alpha channel."""
    write_transforms(tmp_path / "capture", transforms(6))
    return tmp_path / "capture"


def run(capture: Path, job: Path) -> subprocess.CompletedProcess[str]:
    result = synthetic.reconstruct(capture, job)
    assert "Traceback" not in result.stderr and not result.stdout
    assert result.returncode == 2, result
    return result


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The one line beyond progress and warnings."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("reconstruct: ", "warning: "))]
    assert len(lines) == 1 and lines[0].startswith("unrender: ") and len(lines[0]) < 500, result.stderr
    return lines[0]


def rewrite(capture: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = capture / "transforms.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def empty(capture: Path) -> str:
    shutil.rmtree(capture)
    capture.mkdir()
    return str(capture)


def gone(capture: Path) -> str:
    shutil.rmtree(capture)
    return str(capture)


def photographs_alone(capture: Path) -> str:
    (capture / "transforms.json").unlink()
    for path in (capture / "images").iterdir():
        path.rename(capture / path.name)
    return "solve"


def another_json(capture: Path) -> str:
    (capture / "transforms.json").write_text('{"name": "something else"}')
    return "transforms.json"


def half_a_json(capture: Path) -> str:
    path = capture / "transforms.json"
    path.write_text(path.read_text()[:200])
    return "transforms.json"


def missing_images(capture: Path) -> str:
    for index in range(4):
        (capture / "images" / f"{index}.png").unlink()
    return "0.png"


def no_number(capture: Path) -> str:
    rewrite(capture, lambda data: data["frames"][2]["transform_matrix"][1].__setitem__(3, float("nan")))
    return "NaN"


def mirrored(capture: Path) -> str:
    def edit(data: dict[str, Any]) -> None:
        matrix = np.array(data["frames"][1]["transform_matrix"])
        matrix[:3, 0] *= -1
        data["frames"][1]["transform_matrix"] = matrix.tolist()

    rewrite(capture, edit)
    return "mirrored"


def not_an_image(capture: Path) -> str:
    (capture / "images" / "3.png").write_bytes(b"this is no picture")
    return "3.png"


@pytest.mark.parametrize(
    "damage",
    [
        empty,
        gone,
        photographs_alone,
        another_json,
        half_a_json,
        missing_images,
        no_number,
        mirrored,
        not_an_image,
    ],
)
def test_what_can_be_seen_at_once_leaves_no_job(capture: Path, tmp_path: Path, damage: Callable[[Path], str]) -> None:
    said = damage(capture)
    result = run(capture, tmp_path / "job")
    assert said in complaint(result)
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "job").exists()


def cut_off(capture: Path) -> str:
    path = capture / "images" / "3.png"
    Image.effect_noise((32, 32), 50).convert("RGBA").save(path)
    path.write_bytes(path.read_bytes()[:-400])
    return "3.png"


def no_masks(capture: Path) -> str:
    for path in (capture / "images").iterdir():
        Image.open(path).convert("RGB").save(path)
    return "mask"


def empty_masks(capture: Path) -> str:
    for path in (capture / "images").iterdir():
        Image.new("RGBA", (32, 32), (9, 9, 9, 0)).save(path)
    return "mask"


def nothing_in_common(capture: Path) -> str:
    # Each camera looks at its own disc, away from all others.
    def edit(data: dict[str, Any]) -> None:
        for frame in data["frames"]:
            matrix = np.array(frame["transform_matrix"])
            matrix[:3, [0, 2]] *= -1
            frame["transform_matrix"] = matrix.tolist()

    rewrite(capture, edit)
    return "common volume"


def only_a_test_split(capture: Path) -> str:
    (capture / "transforms.json").rename(capture / "transforms_test.json")
    (capture / "transforms_train.json").write_text('{"camera_angle_x": 0.7, "frames": []}')
    return "views"


@pytest.mark.parametrize(
    "damage",
    [
        cut_off,
        no_masks,
        empty_masks,
        nothing_in_common,
    ],
)
def test_what_only_the_pixels_show_fails_the_job_in_one_line(
    capture: Path, tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    said = damage(capture)
    job = tmp_path / "job"
    with pytest.raises(UserError) as caught, synthetic.small_light(), Job(job, {}) as running:
        reconstruct(capture, running, Settings.from_preset("draft", "cpu", QUICK))
    one_line(caught.value, said)
    assert last_words(job) == ["failed"] and said in events(job)[-1]["message"]
    assert not (job / "result").exists() and not (job / "claim.json").exists()
    assert not list(job.rglob("*.safetensors")) and not list(job.rglob("*.part"))


def test_a_broken_photograph_at_the_command_line(capture: Path, tmp_path: Path) -> None:
    said = cut_off(capture)
    result = run(capture, tmp_path / "job")
    assert said in complaint(result)
    assert last_words(tmp_path / "job") == ["failed"]


def test_a_capture_without_training_views_is_one_line(capture: Path, tmp_path: Path) -> None:
    only_a_test_split(capture)
    result = run(capture, tmp_path / "job")
    assert "view" in complaint(result)


def test_an_output_that_holds_other_things_is_left_alone(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "documents"
    out.mkdir()
    (out / "novel.txt").write_text("chapter one")
    assert str(out) in complaint(run(capture, out))
    assert contents(out) == {"novel.txt": b"chapter one"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc, where nobody can make folders")
def test_an_output_that_cannot_be_written_is_one_line(capture: Path) -> None:
    assert "/proc/unrender" in complaint(run(capture, Path("/proc/unrender/job")))


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_an_output_without_permission_is_one_line(capture: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert str(closed) in complaint(run(capture, closed / "job"))
    assert not list(closed.iterdir())


def test_resuming_where_there_is_nothing_is_refused(capture: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    result = synthetic.reconstruct(capture, job, "--resume")
    assert result.returncode == 2 and "resume" in complaint(result)
    assert not job.exists()


def test_the_capture_itself_is_not_overwritten(tmp_path: Path) -> None:
    # The folder of the photographs as --out: they must survive, whatever the answer is.
    folder = tmp_path / "capture"
    write_transforms(folder, transforms(6), image=disc((16, 16)))
    before = contents(folder)
    complaint(run(folder, folder))
    assert contents(folder) == before
