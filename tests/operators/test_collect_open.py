# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a capture of each format in Blender, and collecting it again."""

import os
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.backend.capture import Camera, Capture, View, read_capture, write_capture_json
from bl_ext.dev.unrender.operators import collect_open, preflight, preflight_thumbnail, reconstruct

from tests.operators import collect_scenes as scenes
from tests.operators.scene_parts import colmap, nerf


def native(folder: Path) -> Path:
    """A capture.json with everything in it that a scene can hold."""
    camera = Camera(scenes.WIDTH, scenes.HEIGHT, 50.0, 52.0, 25.0, 15.0, (-0.1, 0.02))
    views = []
    for i in range(4):
        photo = scenes.photograph(folder / f"photos/{i}.png")
        mask = scenes.mask(folder / f"masks/{i}.png")
        pose = np.array(scenes.orbit(i * 1.5), np.float64)
        views.append(View(f"{i}", photo, camera, pose, mask, "test" if i == 0 else "train", 0.25 * i or None))
    bounds = np.array([[-1.0, -2.0, -0.5], [1.0, 2.0, 1.5]])
    write_capture_json(Capture(folder, tuple(views), "capture.json", bounds), folder)
    return folder


def cameras() -> list[Any]:
    found = [item for item in bpy.context.scene.objects if item.type == "CAMERA"]
    return sorted(found, key=lambda camera: camera["unrender_view"])


def agrees(capture: Capture) -> None:
    """The cameras in the scene show points where the capture's show them."""
    bpy.context.view_layer.update()
    assert len(cameras()) == len(capture.views)
    for camera, view in zip(cameras(), capture.views):
        aspect_x, aspect_y = camera["unrender_pixel_aspect"]
        projection = camera.calc_matrix_camera(
            bpy.context.evaluated_depsgraph_get(),
            x=view.camera.width,
            y=view.camera.height,
            scale_x=aspect_x,
            scale_y=aspect_y,
        )
        matrix = np.array(projection @ camera.matrix_world.normalized().inverted(), np.float64)
        clip = np.concatenate([scenes.POINTS, np.ones((4, 1))], 1) @ matrix.T
        ndc = clip[:, :2] / clip[:, 3:]
        size = (view.camera.width, view.camera.height)
        pixels = np.stack([(ndc[:, 0] + 1) / 2 * size[0], (1 - ndc[:, 1]) / 2 * size[1]], axis=1)
        assert np.abs(pixels - scenes.capture_pixels(view, scenes.POINTS)).max() < 1e-3
        background = camera.data.background_images[0].image
        assert Path(background.filepath_from_user()).resolve() == view.image.resolve()


def collect(folder: Path) -> Capture:
    bpy.context.scene.unrender.collect.folder = str(folder)
    assert bpy.ops.unrender.collect() == {"FINISHED"}
    return read_capture(folder)


def test_nothing_of_a_native_capture_is_lost(tmp_path: Path) -> None:
    source = read_capture(native(tmp_path / "capture"))
    assert bpy.ops.unrender.open_capture(filepath=str(tmp_path / "capture")) == {"FINISHED"}
    agrees(source)
    ours = bpy.context.scene.unrender
    assert Path(ours.capture) == tmp_path / "capture"
    report = preflight.report_of(bpy.context.scene)
    assert report is not None and "4 views of 48 x 32, 1 of them held out" in report.summary
    again = collect(tmp_path / "again")
    np.testing.assert_allclose(again.bounds, source.bounds, atol=1e-6)
    for old, new in zip(source.views, again.views):
        assert (new.name, new.split, new.exposure) == (old.name, old.split, old.exposure)
        assert new.image.resolve() == old.image.resolve() and new.mask.resolve() == old.mask.resolve()
        np.testing.assert_allclose(new.cam_to_world, old.cam_to_world, atol=1e-6)
        for key in ("fx", "fy", "cx", "cy"):
            assert abs(getattr(new.camera, key) - getattr(old.camera, key)) < 1e-3
        np.testing.assert_allclose(new.camera.distortion, old.camera.distortion)
    assert Path(ours.capture) == tmp_path / "again"


def test_transforms(tmp_path: Path) -> None:
    folder = nerf(tmp_path)
    assert bpy.ops.unrender.open_capture(filepath=str(folder / "transforms.json")) == {"FINISHED"}
    agrees(read_capture(folder))
    region = bpy.context.scene.unrender.collect.region
    assert region is not None and np.linalg.norm(region.location) < 0.01  # where the cameras look
    assert min(region.scale) > 0.3


def test_colmap_as_it_is(tmp_path: Path) -> None:
    folder = colmap(tmp_path)
    assert bpy.ops.unrender.open_capture(filepath=str(folder), upright=False, points=False) == {"FINISHED"}
    agrees(read_capture(folder))


def test_colmap_turned_upright(tmp_path: Path) -> None:
    folder = colmap(tmp_path)
    source = read_capture(folder)
    assert bpy.ops.unrender.open_capture(filepath=str(folder)) == {"FINISHED"}
    bpy.context.view_layer.update()
    ups = np.array([np.array(camera.matrix_world)[:3, 1] for camera in cameras()])
    assert ups.mean(axis=0)[2] > 0.9 and np.abs(ups.mean(axis=0)[:2]).max() < 0.05
    root = cameras()[0].parent
    region = bpy.context.scene.unrender.collect.region
    bounds = np.array(region.matrix_world.to_scale())
    assert (0.4 < bounds).all() and (bounds < 0.8).all()  # around the points, not all that the cameras see
    cloud = next(item for item in bpy.context.scene.objects if item.type == "MESH")
    assert len(cloud.data.vertices) == 200
    again = collect(tmp_path / "again")
    turn = np.array(root.matrix_world, np.float64)
    for old, new in zip(source.views, again.views):
        np.testing.assert_allclose(new.cam_to_world, turn @ old.cam_to_world, atol=1e-5)
    root.scale, root.location = (2, 2, 2), (1, 0, 0)
    bpy.context.view_layer.update()
    moved = collect(tmp_path / "again")
    for old, new in zip(again.views, moved.views):
        np.testing.assert_allclose(new.center, 2 * old.center + (1, 0, 0), atol=1e-5)
    np.testing.assert_allclose(moved.bounds, 2 * again.bounds + (1, 0, 0), atol=1e-4)


@pytest.mark.parametrize("upright", [True, False])
def test_a_capture_that_was_turned_has_to_be_collected(tmp_path: Path, upright: bool) -> None:
    """Its file has another up than the scene, where the result shall stand among the cameras."""
    bpy.ops.unrender.open_capture(filepath=str(colmap(tmp_path)), upright=upright)
    scene: Any = bpy.context.scene
    bpy.data.objects.remove(scene.unrender.collect.region)
    assert reconstruct.is_outdated(scene) == upright
    collect(tmp_path / "again")
    assert not reconstruct.is_outdated(scene)


def test_the_file_browser_opens_in_a_folder_without_a_name(tmp_path: Path) -> None:
    scene: Any = bpy.context.scene
    capture = native(tmp_path / "statue")
    assert collect_open.first_folder(scene).endswith(os.sep)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    assert collect_open.first_folder(scene) == f"{tmp_path}{os.sep}"
    scene.unrender.capture = "//statue/capture.json"
    assert collect_open.first_folder(scene) == f"{capture}{os.sep}"


def test_nothing_is_left_on_failure(tmp_path: Path) -> None:
    folder = native(tmp_path)
    (folder / "capture.json").write_text("{}")
    before = {kind: len(getattr(bpy.data, kind)) for kind in ("objects", "cameras", "images", "collections")}
    with pytest.raises(RuntimeError, match="not a capture"):
        bpy.ops.unrender.open_capture(filepath=str(folder))
    assert before == {kind: len(getattr(bpy.data, kind)) for kind in before}
    with pytest.raises(RuntimeError, match="no such capture"):
        bpy.ops.unrender.open_capture(filepath=str(tmp_path / "nowhere"))


def test_a_view_to_look_at(tmp_path: Path) -> None:
    native(tmp_path / "capture")
    bpy.ops.unrender.open_capture(filepath=str(tmp_path / "capture"))
    scene: Any = bpy.context.scene
    report = preflight.report_of(scene)
    assert report is not None
    scene.unrender.collect.shown = 2
    picture = preflight.shown_picture(scene, report)
    assert picture is not None and picture.name == "2"
    key = preflight_thumbnail._key(picture.photo, picture.mask)
    preview = preflight_thumbnail._previews[key]
    assert tuple(preview.image_size) == (scenes.WIDTH, scenes.HEIGHT)
    pixels = np.array(preview.image_pixels_float[:]).reshape(scenes.HEIGHT, scenes.WIDTH, 4)
    photo = np.rint(np.linspace(0, 255, scenes.WIDTH)) / 255
    third = scenes.WIDTH // 3
    np.testing.assert_allclose(pixels[5, third : 2 * third, 0], photo[third : 2 * third], atol=0.01)
    assert np.abs(pixels[5, 2 * third :, 0] - photo[2 * third :]).min() > 0.08  # tinted where the mask hides
    assert pixels[0, third, 1] > pixels[-1, third, 1] + 0.9  # previews have their last row on top
    assert len(bpy.data.images) == 4  # loading left nothing behind
