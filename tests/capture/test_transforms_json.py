# SPDX-License-Identifier: GPL-3.0-or-later
"""NeRF-style files in all their variants, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.capture import read_capture
from backend.errors import UserError
from tests.capture.builders import ANGLE, SIZE, disc, one_line, orbit_pose, save, transforms, write_transforms

FOCAL = 0.5 * SIZE / math.tan(0.5 * ANGLE)


def read(folder: Path, data: dict[str, Any], **options: Any):
    write_transforms(folder, data)
    return read_capture(folder, **options)


def refused(folder: Path, data: dict[str, Any], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        read(folder, data)
    one_line(caught.value, *words)


def test_angle_alone_gives_square_pixels_and_a_central_axis(tmp_path):
    capture = read(tmp_path, transforms())
    camera = capture.views[0].camera
    assert (camera.width, camera.height) == (SIZE, SIZE)
    np.testing.assert_allclose([camera.fx, camera.fy, camera.cx, camera.cy], [FOCAL, FOCAL, SIZE / 2, SIZE / 2])
    assert not camera.distorted
    assert capture.warnings == ()
    assert capture.views[1].name == "images/1"
    np.testing.assert_allclose(capture.views[1].cam_to_world, orbit_pose(2.0 * math.pi / 6), atol=1e-12)


def test_pixels_go_before_angles_and_frames_before_the_file(tmp_path):
    data = transforms(fl_x=50.0, fl_y=51.0, cx=15.0, cy=17.0, w=32.0, h=32.0, k1=0.1, p2=0.01)
    data["frames"][1] |= {"fl_x": 60.0, "cx": 14.0, "k1": 0.2, "k2": 0.3}
    data["frames"][2] |= {"camera_angle_x": ANGLE, "camera_angle_y": 0.5}
    first, second, third = (view.camera for view in read(tmp_path, data).views[:3])
    assert (first.fx, first.fy, first.cx, first.cy) == (50.0, 51.0, 15.0, 17.0)
    assert first.distortion == (0.1, 0.0, 0.0, 0.01)
    assert (second.fx, second.fy, second.cx) == (60.0, 60.0, 14.0)
    assert second.distortion == (0.2, 0.3, 0.0, 0.01)
    np.testing.assert_allclose([third.fx, third.fy], [FOCAL, 0.5 * SIZE / math.tan(0.25)])


@pytest.mark.parametrize("model", ["PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"])
def test_camera_models_with_opencv_distortion(tmp_path, model):
    assert len(read(tmp_path, transforms(camera_model=model)).views) == 6


@pytest.mark.parametrize(
    "extra", [{"camera_model": "OPENCV_FISHEYE"}, {"camera_model": "EQUIRECTANGULAR"}, {"is_fisheye": True}]
)
def test_other_camera_models_are_refused(tmp_path, extra):
    refused(tmp_path, transforms(**extra), "pinhole", "Undistort")


def test_k4_is_refused_unless_its_meaning_is_clear(tmp_path):
    refused(tmp_path, transforms(k1=0.1, k4=0.1), "k4", "FULL_OPENCV")
    capture = read(tmp_path, transforms(k1=0.1, k4=0.1, camera_model="FULL_OPENCV"))
    assert capture.views[0].camera.distortion == (0.1, 0.0, 0.0, 0.0, 0.0, 0.1)


@pytest.mark.parametrize("form", ["{}", "./{}", ".\\{}", "ABSOLUTE/{}", "/gone/with/the/machine/{}", "C:\\shots\\{}"])
@pytest.mark.parametrize("suffix", [".png", ""])
def test_every_way_to_write_a_path(tmp_path, form, suffix):
    data = transforms()
    write_transforms(tmp_path, data)
    form = form.replace("ABSOLUTE", tmp_path.as_posix())
    for i, frame in enumerate(data["frames"]):
        path = form.format(f"images/{i}{suffix}")
        frame["file_path"] = path.replace("/", "\\") if "\\" in form else path
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    capture = read_capture(tmp_path)
    assert [view.image for view in capture.views] == [tmp_path / f"images/{i}.png" for i in range(6)]
    assert [view.name for view in capture.views] == [f"images/{i}" for i in range(6)]


def test_names_with_dots_keep_them(tmp_path):
    data = transforms(3)
    for i, frame in enumerate(data["frames"]):
        save(disc(), tmp_path / f"images/r_0.{i}.png")
        frame["file_path"] = f"images/r_0.{i}"
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    assert [view.name for view in read_capture(tmp_path).views] == ["images/r_0.0", "images/r_0.1", "images/r_0.2"]


def test_one_file_a_split(tmp_path):
    for split, n in (("train", 5), ("test", 3), ("val", 2)):
        data = transforms(n)
        for i, frame in enumerate(data["frames"]):
            frame["file_path"] = f"./{split}/r_{i}"
        write_transforms(tmp_path, data, f"transforms_{split}.json")
    capture = read_capture(tmp_path, holdout=2)
    assert [len(capture.split(split)) for split in ("train", "test", "val")] == [5, 3, 2]
    assert capture.views[5].name == "test/r_0"
    alone = read_capture(tmp_path / "transforms_test.json")
    assert len(alone.views) == len(alone.split("test")) == 3


def test_a_photograph_in_two_splits_stays_in_the_first(tmp_path):
    for split in ("train", "val", "test"):
        write_transforms(tmp_path, transforms(6 if split == "train" else 7), f"transforms_{split}.json")
    capture = read_capture(tmp_path)
    assert [len(capture.split(split)) for split in ("train", "test", "val")] == [6, 1, 0]
    assert any("6 views of the split test left out" in line for line in capture.warnings)


def test_split_lists_in_one_file(tmp_path):
    data = transforms(
        train_filenames=[f"./images/{i}.png" for i in range(3)],
        test_filenames=["images/3.png"],
        val_filenames=["images/4.png"],
    )
    capture = read(tmp_path, data)
    assert [view.split for view in capture.views] == ["train", "train", "train", "test", "val"]
    assert any("images/5" in line for line in capture.warnings)


def test_holdout_marks_every_nth_view(tmp_path):
    capture = read(tmp_path, transforms(7), holdout=3)
    assert [view.split for view in capture.views] == ["test", "train", "train", "test", "train", "train", "test"]
    assert any("3 of 7 views held out" in line for line in capture.warnings)
    with pytest.raises(UserError) as caught:
        read_capture(tmp_path, holdout=1)
    one_line(caught.value, "holdout")


def test_masks_beside_the_images(tmp_path):
    data = transforms(3)
    for i, frame in enumerate(data["frames"]):
        frame["mask_path"] = save(disc().getchannel("A"), tmp_path / f"masks/{i}.png").relative_to(tmp_path).as_posix()
    assert [view.mask for view in read(tmp_path, data).views] == [tmp_path / f"masks/{i}.png" for i in range(3)]


def test_applied_transform_and_scale_are_undone(tmp_path):
    turn = np.array([[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, -1.0, 2.0], [0.0, 1.0, 0.0, -1.0], [0.0, 0.0, 0.0, 1.0]])
    data = transforms()
    originals = [np.array(frame["transform_matrix"]) for frame in data["frames"]]
    for frame, pose in zip(data["frames"], originals):
        applied = turn @ pose
        applied[:3, 3] *= 0.25
        frame["transform_matrix"] = applied.tolist()
    data |= {"applied_transform": turn[:3].tolist(), "applied_scale": 0.25}
    for view, pose in zip(read(tmp_path, data).views, originals):
        np.testing.assert_allclose(view.cam_to_world, pose, atol=1e-12)
    refused(tmp_path, data | {"applied_transform": np.diag([1.0, 1.0, -1.0, 1.0]).tolist()}, "applied_transform")


def test_intrinsics_of_another_resolution_are_scaled(tmp_path):
    capture = read(tmp_path, transforms(fl_x=200.0, fl_y=210.0, cx=60.0, cy=66.0, w=128, h=128))
    camera = capture.views[0].camera
    assert (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy) == (32, 32, 50.0, 52.5, 15.0, 16.5)
    assert any("128 x 128" in line and "6 views" in line for line in capture.warnings)


def test_intrinsics_of_another_shape_are_refused(tmp_path):
    refused(tmp_path, transforms(w=48, h=32), "48 x 32", "32 x 32", "images/0.png")


def test_missing_files_are_reported_and_too_many_refused(tmp_path):
    data = transforms(8)
    file = write_transforms(tmp_path, data)
    for i in (1, 2, 5):
        (tmp_path / f"images/{i}.png").unlink()
    capture = read_capture(file)
    assert len(capture.views) == 5
    assert capture.warnings == ("3 views left out, the image is missing: images/1, images/2, images/5",)
    for i in (3, 4):
        (tmp_path / f"images/{i}.png").unlink()
    with pytest.raises(UserError) as caught:
        read_capture(file)
    one_line(caught.value, "8 views", "those of 3", "5 images", "images/1.png")


def test_missing_masks_are_reported(tmp_path):
    data = transforms(4)
    for i, frame in enumerate(data["frames"]):
        frame["mask_path"] = f"masks/{i}.png"
        if i:
            save(disc().getchannel("A"), tmp_path / f"masks/{i}.png")
    capture = read(tmp_path, data)
    assert len(capture.views) == 3
    assert capture.warnings == ("1 view left out, the mask is missing: images/0",)


def pose_with(change: Any) -> dict[str, Any]:
    data = transforms(4)
    pose = np.array(data["frames"][2]["transform_matrix"])
    data["frames"][2]["transform_matrix"] = change(pose)
    return data


def test_a_scaled_pose_loses_its_scale_and_keeps_its_place(tmp_path):
    data = pose_with(lambda pose: (pose @ np.diag([2.0, 2.0, 2.0, 1.0])).tolist())
    capture = read(tmp_path, data)
    np.testing.assert_allclose(capture.views[2].cam_to_world, orbit_pose(math.pi), atol=1e-12)
    assert capture.warnings == ("the pose of 1 view carried a scale, which was dropped: images/2",)


def test_a_pose_of_three_rows_and_little_precision(tmp_path):
    data = pose_with(lambda pose: np.round(pose[:3], 4).tolist())
    rotation = read(tmp_path, data).views[2].cam_to_world[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pose: (pose * np.nan).tolist(), ("images/2", "NaN")),
        (lambda pose: (pose + np.inf).tolist(), ("images/2", "infinity")),
        (lambda pose: (pose @ np.diag([1.0, 1.0, -1.0, 1.0])).tolist(), ("mirrored", "OpenGL")),
        (lambda pose: (pose @ np.diag([1.0, 1.2, 1.0, 1.0])).tolist(), ("sheared", "images/2")),
        (lambda pose: np.zeros((4, 4)).tolist(), ("last row",)),
        (lambda pose: np.diag([0.0, 1.0, 1.0, 1.0]).tolist(), ("zeros",)),
        (lambda pose: pose[:2].tolist(), ("4 x 4", "2 x 4")),
        (lambda pose: [[1, 2], [3]], ("matrix", "list")),
        (lambda pose: None, ("matrix", "null")),
        (lambda pose: "here", ("matrix", "here")),
        (lambda pose: [[10**400] * 4] * 4, ("matrix",)),
    ],
)
def test_poses_that_are_none(tmp_path, change, words):
    refused(tmp_path, pose_with(change), "frame 2", *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.pop("camera_angle_x"), ("focal length", "camera_angle_x")),
        (lambda data: data.update(camera_angle_x="wide"), ("camera_angle_x", "wide")),
        (lambda data: data.update(camera_angle_x=-1), ("camera_angle_x", "above 0")),
        (lambda data: data.update(camera_angle_x=90), ("camera_angle_x", "180")),
        (lambda data: data.update(w=10**400), ("finite",)),
        (lambda data: data.update(k1=True), ("k1", "true")),
        (lambda data: data.update(camera_model=5), ("camera_model", "text")),
        (lambda data: data.update(cx=1e300), ("cx", "finite")),
        (lambda data: data.update(train_filenames="all"), ("train_filenames",)),
        (lambda data: data["frames"].append(7), ("frame 4", "object")),
        (lambda data: data["frames"].append({"transform_matrix": []}), ("frame 4", "file_path")),
        (lambda data: data["frames"][0].update(file_path=3), ("frame 0", "file_path")),
        (lambda data: data["frames"][0].pop("transform_matrix"), ("frame 0", "images/0", "pose")),
        (lambda data: data["frames"].append(data["frames"][0]), ("images/0", "duplicate")),
        (lambda data: data["frames"].clear(), ("no views",)),
    ],
)
def test_files_with_mistakes(tmp_path, change, words):
    data = transforms(4)
    file = write_transforms(tmp_path, data)
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(UserError) as caught:
        read_capture(tmp_path)
    one_line(caught.value, "transforms.json", *words)


def test_paths_that_no_file_can_have_count_as_missing(tmp_path):
    data = transforms(6)
    write_transforms(tmp_path, data)
    for frame, path in zip(data["frames"], ("/", "a" * 5000, "nul\0byte")):
        frame["file_path"] = path
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    assert len(read_capture(tmp_path).views) == 3
