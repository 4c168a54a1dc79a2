# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP models that the test writes, text and binary, against the cameras that they were made from."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.capture import read_capture
from backend.capture.colmap import MODELS, find_model, read_points
from backend.errors import UserError
from tests.capture.builders import SIZE, disc, one_line, orbit_pose, save

PARAMETERS = {
    "SIMPLE_PINHOLE": (40.0, 15.5, 16.25),
    "PINHOLE": (40.0, 41.0, 15.5, 16.25),
    "SIMPLE_RADIAL": (40.0, 15.5, 16.25, -0.1),
    "RADIAL": (40.0, 15.5, 16.25, -0.1, 0.02),
    "OPENCV": (40.0, 41.0, 15.5, 16.25, -0.1, 0.02, 0.001, -0.002),
    "FULL_OPENCV": (40.0, 41.0, 15.5, 16.25, -0.1, 0.02, 0.001, -0.002, 0.003, 0.2, 0.05, 0.006),
}
LENSES = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": (-0.1,),
    "RADIAL": (-0.1, 0.02),
    "OPENCV": (-0.1, 0.02, 0.001, -0.002),
    "FULL_OPENCV": (-0.1, 0.02, 0.001, -0.002, 0.003, 0.2, 0.05, 0.006),
}
POINTS = np.array([[0.5, -0.25, 1.0], [0.0, 2.0, -3.5]])


def colmap_pose(cam_to_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quaternion w x y z and translation, world to camera, of a pose with OpenGL axes."""
    rotation = (cam_to_world[:3, :3] * (1.0, -1.0, -1.0)).T
    translation = -rotation @ cam_to_world[:3, 3]
    # The eigenvector of Bar-Itzhack's matrix: sound for every rotation, also those with w = 0.
    m = rotation
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    x, y, z, w = np.linalg.eigh(k)[1][:, -1]
    return np.array([w, x, y, z]), translation


def poses(n: int = 4) -> list[np.ndarray]:
    return [orbit_pose(2.0 * math.pi * i / n + 0.3) for i in range(n)]


def write_model(folder: Path, form: str, model: str = "PINHOLE", names: list[str] | None = None) -> Path:
    """The model files of ``poses()`` in ``folder``, with camera 7 and images counted from 11."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names or [f"{i}.png" for i in range(4)]
    entries = [(11 + i, *colmap_pose(pose), name) for i, (pose, name) in enumerate(zip(poses(), names))]
    write_text(folder, model, entries) if form == "text" else write_binary(folder, model, entries)
    return folder


def write_text(folder: Path, model: str, entries: list[Any]) -> None:
    values = " ".join(map(repr, PARAMETERS[model]))
    (folder / "cameras.txt").write_text(f"# Camera list\n7 {model} {SIZE} {SIZE} {values}\n")
    lines = ["# Image list with two lines of data per image:"]
    for number, rotation, translation, name in entries:
        lines.append(" ".join(map(repr, [number, *map(float, rotation), *map(float, translation), 7])) + f" {name}")
        lines.append("1.5 2.5 -1 3.5 4.5 1" if number % 2 else "")  # an image may have no points
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text(
        "# 3D points\n"
        + "".join(f"{i} {' '.join(map(repr, map(float, p)))} 9 9 9 0.5 11 0\n" for i, p in enumerate(POINTS))
    )


def write_binary(folder: Path, model: str, entries: list[Any]) -> None:
    parameters = PARAMETERS[model]
    head = struct.pack("<QiiQQ", 1, 7, MODELS[model][0], SIZE, SIZE)
    (folder / "cameras.bin").write_bytes(head + struct.pack(f"<{len(parameters)}d", *parameters))
    data = struct.pack("<Q", len(entries))
    for number, rotation, translation, name in entries:
        data += struct.pack("<i7di", number, *rotation, *translation, 7) + name.encode() + b"\0"
        data += struct.pack("<Q", 2) + struct.pack("<ddqddq", 1.5, 2.5, -1, 3.5, 4.5, 1)
    (folder / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(POINTS))
    for number, point in enumerate(POINTS):
        data += struct.pack("<Q3d3Bd", number, *point, 9, 9, 9, 0.5) + struct.pack("<Qiiii", 2, 11, 0, 12, 0)
    (folder / "points3D.bin").write_bytes(data)


def photographs(folder: Path, names: list[str] | None = None) -> None:
    for name in names or [f"{i}.png" for i in range(4)]:
        save(disc(), folder / name)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_capture(path)
    one_line(caught.value, *words)


@pytest.mark.parametrize("form", ["text", "binary"])
@pytest.mark.parametrize("model", list(PARAMETERS))
def test_poses_and_cameras(tmp_path, form, model):
    write_model(tmp_path / "sparse" / "0", form, model)
    photographs(tmp_path / "images")
    capture = read_capture(tmp_path)
    assert capture.format == "COLMAP" and not capture.warnings
    assert [view.name for view in capture.views] == ["0", "1", "2", "3"]
    for view, pose in zip(capture.views, poses()):
        np.testing.assert_allclose(view.cam_to_world, pose, atol=1e-12)
        camera = view.camera
        expected = PARAMETERS[model]
        assert (camera.width, camera.height, camera.fx) == (SIZE, SIZE, expected[0])
        assert camera.fy == (expected[1] if expected[1] == 41.0 else expected[0])
        assert (camera.cx, camera.cy) == (15.5, 16.25)
        assert camera.distortion == LENSES[model]
    np.testing.assert_array_equal(read_points(tmp_path / "sparse" / "0"), POINTS)


@pytest.mark.parametrize("place", [".", "sparse", "sparse/0", "colmap/sparse/0", "dense/sparse"])
def test_the_usual_places(tmp_path, place):
    model = write_model(tmp_path / place, "binary")
    photographs(tmp_path / "images")
    for path in (tmp_path, model, model / "images.bin"):
        assert len(read_capture(path).views) == 4
    assert find_model(tmp_path / "images") is None


def test_binary_goes_before_text_and_json_before_both(tmp_path):
    write_model(tmp_path, "text", "PINHOLE")
    write_model(tmp_path, "binary", "SIMPLE_RADIAL")
    photographs(tmp_path / "images")
    assert read_capture(tmp_path).views[0].camera.distorted
    (tmp_path / "settings.json").write_text("{}")
    assert read_capture(tmp_path).format == "COLMAP"
    (tmp_path / "transforms.json").write_text("{}")
    refused(tmp_path, "transforms.json", "not a capture")


def test_folders_masks_and_names_with_spaces(tmp_path):
    names = ["left/a b.png", "left/c.png", "right/a b.png", "right/c.png"]
    write_model(tmp_path / "sparse/0", "text", names=names)
    photographs(tmp_path / "images", names)
    for name in ("left/a b.png.png", "left/c.png", "right/a b.png.png"):
        save(disc().getchannel("A"), tmp_path / "masks" / name)
    capture = read_capture(tmp_path)
    assert [view.name for view in capture.views] == ["left/a b", "left/c", "right/a b", "right/c"]
    assert [view.mask is not None for view in capture.views] == [True, True, True, False]
    assert len(capture.warnings) == 1 and "right/c.png" in capture.warnings[0]


def test_an_exporter_that_leaves_the_points_out(tmp_path):
    write_model(tmp_path, "text")
    file = tmp_path / "images.txt"
    lines = [line for line in file.read_text().splitlines() if line.endswith(".png")]
    file.write_text("\n".join(lines) + "\n")
    photographs(tmp_path / "images")
    assert len(read_capture(tmp_path).views) == 4


def test_another_model_is_mentioned(tmp_path):
    write_model(tmp_path / "sparse/0", "binary")
    write_model(tmp_path / "sparse/1", "binary")
    photographs(tmp_path / "images")
    (warning,) = read_capture(tmp_path).warnings
    assert "2 models" in warning and "not 1" in warning


def test_a_model_without_points(tmp_path):
    write_model(tmp_path, "text")
    (tmp_path / "points3D.txt").unlink()
    assert read_points(tmp_path) is None


def test_missing_photographs(tmp_path):
    write_model(tmp_path / "sparse/0", "text")
    refused(tmp_path, "missing", str(tmp_path / "images" / "0.png"))


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("cameras.txt", "PINHOLE", "OPENCV_FISHEYE", ("line 2", "OPENCV_FISHEYE", "undistort")),
        ("cameras.txt", "PINHOLE", "NONSENSE", ("line 2", "NONSENSE")),
        ("cameras.txt", " 16.25", "", ("line 2", "4 parameters")),
        ("cameras.txt", "40.0", "-40.0", ("line 2", "positive")),
        ("cameras.txt", "40.0", "forty", ("line 2", "CAMERA_ID MODEL")),
        ("cameras.txt", "7 PINHOLE", "8 PINHOLE", ("camera of", "camera 7")),
        ("cameras.txt", "7 PINHOLE", "nan PINHOLE", ("line 2",)),
        ("images.txt", " 7 0.png", "", ("images.txt, line 2", "QW")),
        ("images.txt", "11 ", "11 nan ", ("images.txt, line 2",)),
    ],
)
def test_wrong_text(tmp_path, name, old, new, words):
    write_model(tmp_path, "text")
    photographs(tmp_path / "images")
    file = tmp_path / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    refused(tmp_path, *words)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_every_cut_of_a_binary_file_is_one_line(tmp_path, name):
    write_model(tmp_path, "binary")
    photographs(tmp_path / "images")
    whole = (tmp_path / name).read_bytes()
    for length in range(0, len(whole), 5):
        (tmp_path / name).write_bytes(whole[:length])
        refused(tmp_path, name, "damaged")


def test_wrong_binary(tmp_path):
    write_model(tmp_path, "binary")
    photographs(tmp_path / "images")
    whole = (tmp_path / "cameras.bin").read_bytes()
    for number, words in ((5, "OPENCV_FISHEYE"), (99, "number 99")):
        (tmp_path / "cameras.bin").write_bytes(whole[:12] + struct.pack("<i", number) + whole[16:] + bytes(32))
        refused(tmp_path, "cameras.bin", words)
    (tmp_path / "cameras.bin").write_bytes(b"{}" * 20)
    refused(tmp_path, "cameras.bin", "damaged")
    (tmp_path / "cameras.bin").write_bytes(whole)
    (tmp_path / "images.bin").write_bytes(struct.pack("<Q", 0))
    refused(tmp_path, "images.bin", "no images")
    write_model(tmp_path, "binary")
    data = bytearray((tmp_path / "images.bin").read_bytes())
    data[12:44] = bytes(32)  # the first quaternion
    (tmp_path / "images.bin").write_bytes(data)
    refused(tmp_path, "0.png", "quaternion")
