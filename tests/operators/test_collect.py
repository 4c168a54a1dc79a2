# SPDX-License-Identifier: GPL-3.0-or-later
"""Collecting from each kind of scene, against what Blender itself projects."""

import json
import os
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.backend.capture import Capture
from bl_ext.dev.unrender.operators import preflight

from tests.operators import collect_scenes as scenes


def refused(*words: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.unrender.collect()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def agrees(capture: Capture, cameras: dict[str, tuple[Any, Any]], size: tuple[int, int]) -> None:
    """Every view shows the points where Blender's own projection has them."""
    assert {view.name for view in capture.views} == set(cameras)
    for view in capture.views:
        camera, matrix = cameras[view.name]
        expected = scenes.blender_pixels(camera, matrix, scenes.POINTS, *size)
        assert np.abs(scenes.capture_pixels(view, scenes.POINTS) - expected).max() < 1e-3


def test_cameras_with_photographs_behind_them(tmp_path: Path) -> None:
    cameras = scenes.ring(tmp_path / "photos")
    scenes.add_camera("Viewer")
    hidden = scenes.add_camera("Old", photo=scenes.photograph(tmp_path / "photos/old.png"))
    hidden.hide_set(True)
    capture = scenes.collect(tmp_path / "capture")
    assert scenes.only_capture(tmp_path / "capture")
    size = (scenes.WIDTH, scenes.HEIGHT)
    agrees(capture, {f"photo_{i}": (camera, camera.matrix_world) for i, camera in enumerate(cameras)}, size)
    assert [view.image.resolve() for view in capture.views] == [(tmp_path / f"photos/photo_{i}.png") for i in range(4)]
    entry = json.loads((tmp_path / "capture/capture.json").read_text())["views"][0]
    assert entry["image"] == "../photos/photo_0.png"  # moves together with its folder
    report = preflight.report_of(bpy.context.scene)
    assert report is not None and report.collected
    infos = scenes.levels(report, "INFO")
    assert "Viewer: no photograph" in infos and "Old: hidden" in infos and "4 cameras with one photograph" in infos
    assert "No masks" in scenes.levels(report, "WARNING")


def test_collecting_again_replaces_only_ones_own(tmp_path: Path) -> None:
    scenes.ring(tmp_path / "photos")
    folder = tmp_path / "capture"
    scenes.collect(folder)
    bpy.data.objects.remove(bpy.data.objects["Camera 3"])
    assert len(scenes.collect(folder).views) == 3
    bpy.context.scene.unrender.collect.written = ""
    before = (folder / "capture.json").read_bytes()
    refused("another capture already")
    assert (folder / "capture.json").read_bytes() == before and scenes.only_capture(folder)


def test_portrait_photographs_of_other_proportions(tmp_path: Path) -> None:
    scenes.ring(tmp_path / "photos", 3)
    photo = scenes.photograph(tmp_path / "photos/tall.png", width=30, height=60)
    camera = scenes.add_camera("Tall", scenes.orbit(0.5), photo)
    view = next(view for view in scenes.collect(tmp_path / "capture").views if view.name == "tall")
    expected = scenes.blender_pixels(camera, camera.matrix_world, scenes.POINTS, 30, 60)
    assert np.abs(scenes.capture_pixels(view, scenes.POINTS) - expected).max() < 1e-3
    report = preflight.report_of(bpy.context.scene)
    assert report is not None and "Tall: the photograph has other proportions" in scenes.levels(report, "WARNING")


def test_what_is_missing_or_wrong_is_said(tmp_path: Path) -> None:
    cameras: list[Any] = scenes.ring(tmp_path / "photos", 7)
    (tmp_path / "photos/photo_1.png").unlink()
    cameras[2].data.type = "ORTHO"
    cameras[3].scale = (1, 1, -1)
    cameras[4].data.background_images[0].rotation = 0.2
    cameras[5].data.background_images[0].image = cameras[6].data.background_images[0].image
    bpy.context.view_layer.update()
    report = scenes.check()
    errors, warnings = scenes.levels(report, "ERROR"), scenes.levels(report, "WARNING")
    assert "Camera 1: the photograph is missing" in errors and "photo_1.png" in errors
    assert "Camera 2: only perspective cameras" in errors
    assert "Camera 3: the camera is mirrored" in errors
    assert "Camera 4: the photograph behind the camera is moved" in warnings
    assert "Camera 6: left out, its photograph is another camera's too" in warnings
    assert "3 views: from 20 on" in warnings
    assert [picture.name for picture in report.pictures] == ["photo_0", "photo_4", "photo_6"]
    for camera in cameras[4:]:
        bpy.data.objects.remove(camera)
    bpy.context.scene.unrender.collect.folder = str(tmp_path / "new/capture")
    refused("nothing was collected", "Camera 1")
    assert not (tmp_path / "new").exists()


def test_masks_are_matched_by_name(tmp_path: Path) -> None:
    scenes.ring(tmp_path / "photos", 5)
    scenes.mask(tmp_path / "masks/photo_0.png")
    scenes.mask(tmp_path / "masks/photo_1.png.png")
    scenes.mask(tmp_path / "masks/PHOTO_2_mask.png")
    scenes.mask(tmp_path / "masks/photo_3.png", width=20)
    report = scenes.check(masks=str(tmp_path / "masks"))
    assert "photo_3: left out, the mask has 20 x 32 pixels, the photograph 48 x 32" in scenes.levels(report, "ERROR")
    assert "No mask in 1 view: photo_4" in scenes.levels(report, "WARNING")
    assert "Masks: 3 from files" in scenes.levels(report, "INFO")
    capture = scenes.collect(tmp_path / "capture")
    names = [view.mask.name if view.mask else None for view in capture.views]
    assert names == ["photo_0.png", "photo_1.png.png", "PHOTO_2_mask.png", None]


def test_the_region_and_held_out_views(tmp_path: Path) -> None:
    scenes.ring(tmp_path / "photos", 6)
    for item in bpy.context.view_layer.objects:
        item.select_set(False)
    assert bpy.ops.unrender.add_region() == {"FINISHED"}
    region = bpy.context.scene.unrender.collect.region
    assert region.type == "EMPTY" and np.linalg.norm(region.location) < 1e-3  # where the cameras look
    region.location, region.scale = (0.5, 0.0, 0.25), (1.0, 2.0, 0.5)
    bpy.context.view_layer.update()
    capture = scenes.collect(tmp_path / "capture", holdout=3)
    np.testing.assert_allclose(capture.bounds, [[-0.5, -2.0, -0.25], [1.5, 2.0, 0.75]], atol=1e-6)
    assert [view.split for view in capture.views] == ["test", "train", "train"] * 2
    report = preflight.report_of(bpy.context.scene)
    assert report is not None and not preflight.region_differs(bpy.context.scene, report.bounds)
    region.rotation_euler = (0, 0, np.pi / 4)
    bpy.context.view_layer.update()
    assert preflight.region_differs(bpy.context.scene, report.bounds)
    assert "The region is turned" in scenes.levels(scenes.check(), "WARNING")
    half = 3 / np.sqrt(2)
    np.testing.assert_allclose(
        scenes.collect(tmp_path / "capture").bounds, [[0.5 - half, -half, -0.25], [0.5 + half, half, 0.75]], atol=1e-5
    )
    region.rotation_euler, region.scale = (0, 0, 0), (1.0, 0.0, 1.0)
    bpy.context.view_layer.update()
    assert "The region was left out" in scenes.levels(scenes.check(), "ERROR")
    bpy.ops.object.select_all(action="DESELECT")
    region.select_set(True)
    bpy.ops.object.delete()
    assert scenes.collect(tmp_path / "capture").bounds is None  # deleted, though the property still holds it


def test_a_region_around_the_selected_object() -> None:
    bpy.ops.mesh.primitive_cube_add(size=2.0, location=(1.0, 2.0, 3.0))
    bpy.ops.unrender.add_region()
    region = bpy.context.scene.unrender.collect.region
    np.testing.assert_allclose(region.location, (1.0, 2.0, 3.0), atol=1e-6)
    np.testing.assert_allclose(region.scale, 1.1, atol=1e-6)


def test_packed_and_painted_photographs_are_written(tmp_path: Path) -> None:
    cameras: list[Any] = scenes.ring(tmp_path / "photos")
    packed = cameras[0].data.background_images[0].image
    packed.pack()
    original = (tmp_path / "photos/photo_0.png").read_bytes()
    os.remove(tmp_path / "photos/photo_0.png")
    painted = cameras[1].data.background_images[0].image
    values = np.array(painted.pixels[:], np.float32)
    values[2::4] = 200 / 255
    painted.pixels.foreach_set(values)
    painted.update()
    assert painted.is_dirty
    capture = scenes.collect(tmp_path / "capture")
    images = tmp_path / "capture" / "unrender_views"
    assert [view.image.parent == images for view in capture.views] == [True, True, False, False]
    assert capture.views[0].image.read_bytes() == original
    written = bpy.data.images.load(str(capture.views[1].image))
    np.testing.assert_allclose(np.array(written.pixels[:]), values, atol=1e-6)
    assert scenes.collect(tmp_path / "capture").views[0].image.parent.name == "unrender_views_2"
    assert sorted(path.name for path in (tmp_path / "capture").iterdir()) == ["capture.json", "unrender_views_2"]


def test_selected_cameras_and_a_folder(tmp_path: Path) -> None:
    scenes.set_size()
    names = ("IMG_01.JPG", "img_02", "IMG_03.001", "IMG_04", "IMG_05")
    cameras = [scenes.add_camera(name, scenes.orbit(i)) for i, name in enumerate(names)]
    for number in (1, 2, 3, 4, 9):
        scenes.photograph(tmp_path / f"photos/IMG_{number:02d}.png")
    scenes.photograph(tmp_path / "photos/more/IMG_04.png")
    for camera in cameras:
        camera.select_set(True)
    scenes.add_camera("Viewer").select_set(False)
    cameras[0].name = "IMG_01"
    report = scenes.check(source="FOLDER", images=str(tmp_path / "photos"))
    errors, infos = scenes.levels(report, "ERROR"), scenes.levels(report, "INFO")
    assert "IMG_05: left out, no image of that name in photos" in errors
    assert "IMG_04: left out, 2 images of that name" in errors
    assert "IMG_09.png" in infos and "1 camera left out, not selected" in infos
    capture = scenes.collect(tmp_path / "capture")
    size = (scenes.WIDTH, scenes.HEIGHT)
    expected = {f"IMG_0{i + 1}": (camera, camera.matrix_world) for i, camera in enumerate(cameras[:3])}
    agrees(capture, expected, size)
    bpy.context.scene.unrender.collect.images = str(tmp_path / "nowhere")
    refused("no such folder of images", "nowhere")


def test_a_scene_without_cameras_cannot_collect() -> None:
    assert not bpy.ops.unrender.collect.poll()
    report = scenes.check()
    assert "0 views: a capture needs at least 3" in scenes.levels(report, "ERROR")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    scenes.ring(tmp_path / "photos")
    (tmp_path / "file").write_text("not a folder")
    bpy.context.scene.unrender.collect.folder = str(tmp_path / "file/capture")
    refused("cannot write the capture", "Choose a folder")


def test_beside_the_blend_file(tmp_path: Path) -> None:
    scenes.ring(tmp_path / "photos")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "statue.blend"))
    assert bpy.ops.unrender.collect() == {"FINISHED"}
    ours = bpy.context.scene.unrender
    assert Path(ours.capture) == tmp_path / "unrender/captures/statue"
    assert bpy.ops.unrender.collect() == {"FINISHED"}
    assert [path.name for path in (tmp_path / "unrender/captures").iterdir()] == ["statue"]


def test_photographs_of_one_name_in_two_folders(tmp_path: Path) -> None:
    scenes.ring(tmp_path / "left", 3)
    for i in range(3):
        scenes.add_camera(f"Right {i}", scenes.orbit(i + 0.5), scenes.photograph(tmp_path / f"right/photo_{i}.png"))
    names = [view.name for view in scenes.collect(tmp_path / "capture").views]
    assert names == ["photo_0", "photo_1", "photo_2", "photo_0_2", "photo_1_2", "photo_2_2"]
