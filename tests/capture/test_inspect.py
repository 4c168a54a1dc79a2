# SPDX-License-Identifier: GPL-3.0-or-later
"""What inspect finds, misses and calls wrong, on captures made to show it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.capture.inspect import Inspection, inspect
from backend.capture.model import Camera, View
from backend.capture.scene_bounds import nearest_point, radius_in_view
from tests.capture.builders import SIZE, disc, orbit_pose, save, transforms, write_transforms


def inspected(folder: Path, data: dict[str, Any] | None = None, **options: Any) -> Inspection:
    write_transforms(folder, data or transforms(24), **options)
    return inspect(folder)


def said(lines: tuple[str, ...], *words: str) -> bool:
    return any(all(word in line for word in words) for line in lines)


def test_the_demo_is_ready():
    report = inspect(Path("demo"))
    assert report.splits["test"] == 12 and report.splits["train"] >= 40
    assert report.missing == report.wrong == report.warnings == ()
    assert report.masks == {"alpha": sum(report.splits.values()), "file": 0, "none": 0}
    assert report.coverage is not None and 0.1 < report.coverage[0] < report.coverage[2] < 0.3
    assert report.center is not None and report.radius is not None
    # the truth: a box of (±0.41, ±0.42, ±0.81) around the origin
    assert np.linalg.norm(report.center) < 0.2
    assert 0.8 < report.radius < 1.2
    text = report.render_text()
    assert "200 x 200" in text and "ready" in text and "12 test" in text
    json.dumps(report.to_json(), allow_nan=False)


def test_no_masks_and_few_views(tmp_path):
    report = inspected(tmp_path, transforms(8), image=disc().convert("RGB"))
    assert said(report.missing, "masks", "no view") and said(report.missing, "test split")
    assert said(report.missing, "8 to train on")
    assert report.masks["none"] == 8 and report.coverage is None
    assert report.radius_from == "cameras"
    np.testing.assert_allclose(report.center, 0.0, atol=1e-9)
    tangent = math.tan(0.35)  # the sphere that touches the sides of the frustum
    assert report.radius == pytest.approx(math.sqrt(17.0) * tangent / math.hypot(1.0, tangent), rel=1e-6)
    assert "missing" in report.render_text() and "ready" not in report.render_text()


def test_a_disc_is_a_sphere(tmp_path):
    report = inspected(tmp_path, image=disc((256, 256), 0.3))
    assert report.center is not None and report.radius_from == "masks"
    np.testing.assert_allclose(report.center, 0.0, atol=0.02)
    sine = math.sin(math.atan(0.6 * math.tan(0.35)))
    assert report.radius == pytest.approx(math.sqrt(17.0) * sine, rel=0.03)


def test_opencv_axes_are_recognized(tmp_path):
    data = transforms(24)
    for frame in data["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()
    assert said(inspected(tmp_path, data).wrong, "OpenCV axes")


def test_damaged_and_empty_and_inverted(tmp_path):
    file = write_transforms(tmp_path / "a", transforms(24))
    (tmp_path / "a/images/3.png").write_bytes((tmp_path / "a/images/3.png").read_bytes()[:60])
    save(Image.new("RGBA", (SIZE, SIZE)), tmp_path / "a/images/4.png")
    report = inspect(file)
    assert said(report.wrong, "3.png", "damaged") and said(report.wrong, "1 mask", "empty", "images/4")
    inverted = disc()
    inverted.putalpha(Image.eval(inverted.getchannel("A"), lambda value: 255 - value))
    assert said(inspected(tmp_path / "b", image=inverted).wrong, "inverted")
    clear = Image.new("RGBA", (SIZE, SIZE))
    assert said(inspected(tmp_path / "c", image=clear).wrong, "all masks are empty")


def test_poses_that_do_not_fit_the_masks(tmp_path):
    data = transforms(24)
    turned = np.array(data["frames"][5]["transform_matrix"])
    turn = np.eye(4)
    turn[0, 0] = turn[2, 2] = math.cos(0.25)
    turn[0, 2], turn[2, 0] = math.sin(0.25), -math.sin(0.25)
    data["frames"][5]["transform_matrix"] = (turned @ turn).tolist()
    assert said(inspected(tmp_path, data).wrong, "disagree", "images/5")


def test_cameras_that_see_no_depth(tmp_path):
    data = transforms(4)
    for frame in data["frames"]:
        frame["transform_matrix"] = orbit_pose(0.2).tolist()
    report = inspected(tmp_path, data)
    assert report.center is None and report.radius is None
    assert said(report.wrong, "same place") and said(report.wrong, "same pose") and said(report.wrong, "parallel")


def test_objects_cut_off_are_a_note(tmp_path):
    data = transforms(24)
    save(disc(radius=0.6), tmp_path / "images/7.png")
    report = inspected(tmp_path, data)
    assert said(report.warnings, "cuts the object off", "images/7") and report.wrong == ()


def test_nearest_point():
    target = np.array([1.0, -2.0, 0.5])
    directions = np.random.default_rng(5).normal(size=(6, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    np.testing.assert_allclose(nearest_point(target - 3.0 * directions, directions), target, atol=1e-12)
    assert nearest_point(np.eye(3), np.array([[0.0, 0.0, 1.0]] * 3)) is None


def test_radius_in_view_respects_the_principal_point():
    camera = Camera(100, 100, 100.0, 100.0, 20.0, 50.0)
    view = View("a", Path("a.png"), camera, np.eye(4))
    assert radius_in_view(view, np.array([0.0, 0.0, 1.0])) == 0.0
    expected = 0.2 / math.hypot(1.0, 0.2)  # the left side is the nearest
    assert radius_in_view(view, np.array([0.0, 0.0, -1.0])) == pytest.approx(expected)
