# SPDX-License-Identifier: GPL-3.0-or-later
"""Collecting from animated cameras: image sequences, movie clips and their lenses."""

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.operators import compat, preflight

from tests.operators import collect_scenes as scenes
from tests.operators.sample_result import png
from tests.operators.scene_parts import sequence, tracked_camera


def test_an_animated_camera_with_a_movie_clip(tmp_path: Path) -> None:
    camera = tracked_camera(range(3, 9), parent=True)
    clip: Any = bpy.data.movieclips.load(str(sequence(tmp_path / "clip", range(11, 21))))
    clip.frame_start = 2
    lens: Any = clip.tracking.camera
    lens.sensor_width, lens.focal_length = 36.0, 40.0
    lens.principal_point_pixels = (25.0, 15.0)
    lens.k1, lens.k2, lens.k3 = -0.1, 0.02, 0.003
    background = camera.data.background_images.new()
    background.source, background.clip = "MOVIE_CLIP", clip
    bpy.context.scene.frame_set(5)
    capture = scenes.collect(tmp_path / "capture", frame_step=2)
    assert scenes.only_capture(tmp_path / "capture")
    assert bpy.context.scene.frame_current == 5 and len(bpy.data.scenes) == 1
    assert [view.name for view in capture.views] == ["shot_0012", "shot_0014", "shot_0016"]
    for view, frame in zip(capture.views, (3, 5, 7)):
        bpy.context.scene.frame_set(frame)
        np.testing.assert_allclose(view.cam_to_world, np.array(camera.matrix_world), atol=1e-5)
        camera_now = view.camera
        fx = 40.0 * scenes.WIDTH / 36.0
        np.testing.assert_allclose(
            (camera_now.fx, camera_now.fy, camera_now.cx, camera_now.cy),
            (fx, fx, 25.0, scenes.HEIGHT - 15.0),
            rtol=1e-6,
        )
        np.testing.assert_allclose(camera_now.distortion, (-0.1, 0.02, 0.0, 0.0, 0.003), rtol=1e-6)
    infos = scenes.levels(scenes.check(), "INFO")
    assert "Tracked: 3 of 10 frames" in infos and "OpenCV's coefficients, exact" in infos


def test_an_animated_camera_with_an_image_sequence(tmp_path: Path) -> None:
    camera = tracked_camera(range(1, 7))
    for index, frame in enumerate((1, 6)):  # a zoom
        camera.data.lens = 40.0 + 10.0 * index
        camera.data.keyframe_insert("lens", frame=frame)
    image = bpy.data.images.load(str(sequence(tmp_path / "clip", range(11, 17))))
    image.source = "SEQUENCE"
    background = camera.data.background_images.new()
    background.image = image
    user = background.image_user
    user.frame_start, user.frame_duration, user.frame_offset = 1, 6, 10
    capture = scenes.collect(tmp_path / "capture")
    assert len(capture.views) == 6
    cameras = {}
    for view, frame in zip(capture.views, range(1, 7)):
        bpy.context.scene.frame_set(frame)
        assert view.image.resolve() == Path(image.filepath_from_user(image_user=user))
        expected = scenes.blender_pixels(camera, camera.matrix_world, scenes.POINTS, scenes.WIDTH, scenes.HEIGHT)
        assert np.abs(scenes.capture_pixels(view, scenes.POINTS) - expected).max() < 1e-3
        cameras[view.name] = view.camera.fx
    assert len(set(cameras.values())) == 6


def test_frames_that_are_missing_or_do_not_move(tmp_path: Path) -> None:
    camera = tracked_camera(range(1, 7))
    camera.animation_data_clear()
    first = sequence(tmp_path / "clip", range(11, 17))
    clip: Any = bpy.data.movieclips.load(str(first))
    background = camera.data.background_images.new()
    background.source, background.clip = "MOVIE_CLIP", clip
    (tmp_path / "clip/shot_0013.png").unlink()
    report = scenes.check()
    assert "shot_0013: left out, its file is missing" in scenes.levels(report, "ERROR")
    assert "Tracked: the camera does not move" in scenes.levels(report, "WARNING")
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 50, 60
    assert "frame range shows nothing of the footage" in scenes.levels(scenes.check(), "ERROR")


def test_a_lens_that_opencv_cannot_express_is_taken_out(tmp_path: Path) -> None:
    """In 5.2 Nuke's lens has anamorphic terms, which OpenCV has not."""
    camera = tracked_camera(range(1, 5))
    clip: Any = bpy.data.movieclips.load(str(sequence(tmp_path / "clip", range(1, 5))))
    for number in range(1, 5):
        scenes.mask(tmp_path / f"masks/shot_{number:04d}.png")
    lens: Any = clip.tracking.camera
    lens.sensor_width, lens.focal_length, lens.distortion_model = 36.0, 30.0, "NUKE"
    if not hasattr(lens, "nuke_p1"):
        pytest.skip("every lens of this Blender has an OpenCV form")
    lens.nuke_k1, lens.nuke_p1, lens.nuke_p2 = -0.05, 0.3, -0.2
    background = camera.data.background_images.new()
    background.source, background.clip = "MOVIE_CLIP", clip
    capture = scenes.collect(tmp_path / "capture", masks=str(tmp_path / "masks"))
    report = preflight.report_of(bpy.context.scene)
    assert report is not None and "collecting writes undistorted photographs" in scenes.levels(report, "INFO")
    assert len(capture.views) == 4
    for view in capture.views:
        assert not view.camera.distorted and view.mask is not None
        assert view.image.parent == view.mask.parent == tmp_path / "capture" / "unrender_views"
    image = bpy.data.images.load(str(capture.views[0].image))
    assert tuple(image.size) == (scenes.WIDTH, scenes.HEIGHT)
    pixels = np.array(image.pixels[:]).reshape(scenes.HEIGHT, scenes.WIDTH, 4)[::-1]
    # Red tells the column that a pixel came from: compare with the model in its own words, at one row.
    row, column, fx = 4, np.arange(6, 42), 30.0 * scenes.WIDTH / 36.0
    x, y = (column + 0.5 - 24) / 24, (16 - row - 0.5) / 24  # in halves of the longer side
    seen_x, seen_y = x.copy(), np.full_like(x, y)
    for _ in range(50):
        radial = 1 - 0.05 * (seen_x**2 + seen_y**2)
        seen_x, seen_y = x * (radial + 0.3 * seen_y**2), y * (radial - 0.2 * seen_x**2)
    source = seen_x * 24 + 24 - 0.5
    assert fx == 40.0 and np.abs(source - column).max() > 0.4
    np.testing.assert_allclose(pixels[row, column, 0] * (scenes.WIDTH - 1), source, atol=0.2)


def movie(folder: Path, length: int) -> Path:
    """A movie of plain pictures that grow brighter, made by Blender itself."""
    scene: Any = bpy.data.scenes.new("movie")
    strips = scene.sequence_editor_create().strips
    for frame in range(1, length + 1):
        path = folder / f"plain_{frame:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.full((64, 96, 3), 40 * frame, np.uint8)))
        strips.new_image(f"plain {frame}", str(path), 1, frame)
    compat.use_engine(scene, "WORKBENCH")
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 96, 64, 100
    render.fps = 30
    scene.view_settings.view_transform = "Standard"
    scene.frame_start, scene.frame_end = 1, length
    if hasattr(render.image_settings, "media_type"):
        render.image_settings.media_type = "VIDEO"
    render.image_settings.file_format = "FFMPEG"
    render.ffmpeg.format, render.ffmpeg.codec = "MPEG4", "H264"
    render.ffmpeg.constant_rate_factor = "PERC_LOSSLESS"
    render.filepath = str(folder / "movie.mp4")
    render.use_file_extension = False
    bpy.ops.render.render(animation=True, scene=scene.name)
    bpy.data.scenes.remove(scene)
    return folder / "movie.mp4"


def test_the_frames_of_a_movie_are_written(tmp_path: Path) -> None:
    clip: Any = bpy.data.movieclips.load(str(movie(tmp_path / "clip", 5)))
    assert clip.source == "MOVIE" and clip.frame_duration == 5
    camera = tracked_camera(range(1, 6))
    background = camera.data.background_images.new()
    background.source, background.clip = "MOVIE_CLIP", clip
    capture = scenes.collect(tmp_path / "capture")
    assert len(bpy.data.scenes) == 1
    assert [view.image.name for view in capture.views] == [f"movie_{frame:04d}.png" for frame in range(1, 6)]
    for frame, view in enumerate(capture.views, 1):
        image = bpy.data.images.load(str(view.image))
        assert tuple(image.size) == (96, 64)
        assert abs(np.array(image.pixels[:])[::4].mean() * 255 - 40 * frame) < 4
