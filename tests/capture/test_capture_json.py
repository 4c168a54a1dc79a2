# SPDX-License-Identifier: GPL-3.0-or-later
"""The native form: everything that is written is read back; mistakes are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.capture import Camera, Capture, View, read_capture, write_capture_json
from backend.errors import UserError
from tests.capture.builders import SIZE, disc, one_line, orbit_pose, save


def full_capture(folder: Path) -> Capture:
    """One that uses every field of the model."""
    plain = Camera(SIZE, SIZE, 45.0, 46.0, 15.5, 16.25)
    lens = replace(plain, distortion=(0.1, -0.05, 0.001, 0.002, 0.01))
    views = tuple(
        View(
            f"shot {i}",
            save(disc().convert("RGB"), folder / f"images/{i}.png"),
            lens if i % 2 else plain,
            orbit_pose(0.1 + i),
            save(disc().getchannel("A"), folder / f"masks/{i}.png") if i != 1 else None,
            ("train", "train", "test", "val")[i],
            0.25 * i if i else None,
            save(disc(), folder / "normal.png") if i == 2 else None,
            save(disc(), folder / "albedo.png") if i == 3 else None,
        )
        for i in range(4)
    )
    light = save(disc(), folder / "light.png")
    return Capture(folder, views, "capture.json", np.array([[-1.0, -1.0, 0.0], [1.0, 1.0, 2.1]]), light)


def same(one: Capture, other: Capture) -> None:
    for a, b in zip(one.views, other.views, strict=True):
        assert (a.name, a.camera, a.split, a.exposure) == (b.name, b.camera, b.split, b.exposure)
        for key in ("image", "mask", "normal_map", "albedo_map"):
            x, y = getattr(a, key), getattr(b, key)
            assert (x is None) == (y is None)
            assert x is None or x.resolve() == y.resolve()
        np.testing.assert_allclose(a.cam_to_world, b.cam_to_world, atol=1e-14)
    np.testing.assert_array_equal(one.bounds, other.bounds)
    assert one.environment.resolve() == other.environment.resolve()


def test_round_trip(tmp_path):
    capture = full_capture(tmp_path)
    path = write_capture_json(capture, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert str(tmp_path) not in text and '"root"' not in text
    again = read_capture(tmp_path)
    same(capture, again)
    assert again.warnings == ()
    assert [entry.name for entry in tmp_path.glob("*.part")] == []


def test_a_capture_written_elsewhere_finds_its_images_and_moves_along(tmp_path):
    capture = full_capture(tmp_path / "shoot")
    write_capture_json(capture, tmp_path / "jobs" / "one")
    same(capture, read_capture(tmp_path / "jobs" / "one"))
    (tmp_path / "jobs").rename(tmp_path / "jobs2")
    moved = tmp_path / "else"
    moved.mkdir()
    (tmp_path / "jobs2").rename(moved / "jobs")
    (tmp_path / "shoot").rename(moved / "shoot")
    assert len(read_capture(moved / "jobs" / "one").views) == 4


def test_what_may_be_left_out(tmp_path):
    names = [save(disc(), tmp_path / f"{i}.png").name for i in range(3)]
    views = [{"image": name, "camera": 0, "cam_to_world": orbit_pose(i).tolist()} for i, name in enumerate(names)]
    data = {"unrender_capture": 1, "cameras": [{"width": SIZE, "height": SIZE, "fx": 40}], "views": views}
    (tmp_path / "capture.json").write_text(json.dumps(data))
    capture = read_capture(tmp_path)
    assert capture.views[0].camera == Camera(SIZE, SIZE, 40.0, 40.0, 16.0, 16.0)
    assert capture.views[2].name == "2" and capture.views[2].split == "train" and capture.views[2].mask is None
    assert capture.bounds is None and capture.environment is None


def test_missing_priors_and_light_are_reported(tmp_path):
    write_capture_json(full_capture(tmp_path), tmp_path)
    for name in ("normal.png", "albedo.png", "light.png"):
        (tmp_path / name).unlink()
    capture = read_capture(tmp_path)
    assert capture.environment is None and capture.views[2].normal_map is None and capture.views[3].albedo_map is None
    assert len(capture.warnings) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(unrender_capture=2), ("newer", "Update")),
        (lambda d: d.update(unrender_capture="1"), ("unrender_capture",)),
        (lambda d: d.update(unrender_capture=True), ("unrender_capture",)),
        (lambda d: d.pop("views"), ("views", "list")),
        (lambda d: d.update(views={}), ("views", "list")),
        (lambda d: d.update(views=[]), ("no views",)),
        (lambda d: d["views"].append(None), ("views", "entry 4")),
        (lambda d: d["cameras"][0].pop("fx"), ("camera 0", "fx")),
        (lambda d: d["cameras"][0].update(width=0), ("camera 0", "width")),
        (lambda d: d["cameras"][1].update(distortion=[0.0] * 9), ("camera 1", "distortion")),
        (lambda d: d["cameras"][1].update(distortion=["a"]), ("camera 1", "distortion")),
        (lambda d: d["views"][1].update(camera=2), ("view 1", "shot 1", "0 to 1")),
        (lambda d: d["views"][1].update(camera=-1), ("shot 1", "-1")),
        (lambda d: d["views"][1].pop("camera"), ("shot 1", "null")),
        (lambda d: d["views"][1].pop("image"), ("view 1", "image")),
        (lambda d: d["views"][1].update(split="validation"), ("shot 1", "train, test, val", "validation")),
        (lambda d: d["views"][1].update(name="shot 0"), ("shot 0", "duplicate")),
        (lambda d: d["views"][1].update(exposure="bright"), ("exposure", "bright")),
        (lambda d: d["views"][1].pop("cam_to_world"), ("shot 1", "matrix")),
        (lambda d: d.update(bounds=[[0, 0, 0], [1, 1, 0]]), ("bounds", "lowest and highest")),
        (lambda d: d.update(bounds="all"), ("bounds",)),
    ],
)
def test_mistakes(tmp_path, change, words):
    path = write_capture_json(full_capture(tmp_path), tmp_path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(UserError) as caught:
        read_capture(path)
    one_line(caught.value, "capture.json", *words)


def test_the_file_has_a_line_for_each_view(tmp_path):
    text = write_capture_json(full_capture(tmp_path), tmp_path).read_text(encoding="utf-8")
    assert sum('"cam_to_world"' in line for line in text.splitlines()) == 4
    assert sum('"fx"' in line for line in text.splitlines()) == 2
