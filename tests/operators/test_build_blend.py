# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that the demo calls, run as the demo runs it: in a process of its own, without the extension installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.operators import extension, sample_result

SCRIPT = extension.ROOT / "operators" / "build_blend.py"


def build(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )


def pixels_of(path: Path) -> np.ndarray:
    """[H, W, 4] float32 as stored, row 0 at the top."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    image.alpha_mode = "CHANNEL_PACKED"
    width, height = image.size
    values = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(values)
    return values.reshape(height, width, 4)[::-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, result: Path) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("built")
    done = build(result, "--blend", out / "demo.blend", "--render", out / "renders", "--views", 0, "--samples", 16)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # nothing else on stdout, whatever Blender has to say
    return json.loads(line), out


def test_the_blend_holds_everything(built: tuple[dict, Path], tmp_path: Path) -> None:
    report, out = built
    assert report["triangles"] == 12 and report["cameras"] == 2
    moved = tmp_path / "moved.blend"
    (out / "demo.blend").rename(moved)
    bpy.ops.wm.open_mainfile(filepath=str(moved))
    moved.rename(out / "demo.blend")
    scene = bpy.context.scene
    assert scene.view_settings.view_transform == "Standard"
    assert scene.camera.name == "Box side"  # the held-out view
    assert scene.world.name == "Box" and scene.render.engine == "CYCLES"
    for kind in ("BaseColor", "ORM", "Normal", "Environment"):
        assert bpy.data.images[f"Box_{kind}"].packed_file is not None
    assert (out / "demo.blend").read_bytes()[:4] != b"BLEN"  # compressed


def test_the_render_has_the_photographs_size_and_a_clear_background(built: tuple[dict, Path]) -> None:
    report, _ = built
    (render,) = report["renders"]  # the one held-out view
    assert render["view"] == "side"
    picture = pixels_of(Path(render["file"]))
    entry = sample_result.cameras()[1]
    assert picture.shape == (entry["height"], entry["width"], 4)
    assert 0.05 < (picture[..., 3] > 0.5).mean() < 0.9
    # The box's own corners, projected by the pinhole, lie within the picture of it and nothing lies outside.
    positions = sample_result.box()[0].astype(np.float64)
    camera = (positions - np.array(entry["cam_to_world"])[:3, 3]) @ np.array(entry["cam_to_world"])[:3, :3]
    x = entry["fx"] * camera[:, 0] / -camera[:, 2] + entry["cx"]
    y = entry["fy"] * camera[:, 1] / camera[:, 2] + entry["cy"]
    rows, columns = np.nonzero(picture[..., 3] > 0.5)
    assert abs(columns.min() - x.min()) < 1.5 and abs(columns.max() + 1 - x.max()) < 1.5
    assert abs(rows.min() - y.min()) < 1.5 and abs(rows.max() + 1 - y.max()) < 1.5


def test_external_textures(result: Path, tmp_path: Path) -> None:
    done = build(result, "--blend", tmp_path / "out" / "demo.blend", "--external")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "textures" / "Box" / "Box_ORM.png").is_file()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "out" / "demo.blend"))
    assert bpy.data.images["Box_ORM"].filepath == "//textures/Box/Box_ORM.png"


def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = build(tmp_path, "--blend", tmp_path / "demo.blend")
    assert done.returncode == 2 and done.stdout == ""
    assert str(tmp_path) in done.stderr and "asset.glb" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "demo.blend").exists()


def test_an_unwritable_place_is_named(result: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = build(result, "--blend", tmp_path / "file" / "demo.blend")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "cannot write the .blend" in done.stderr
