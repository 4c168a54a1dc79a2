# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures that Blender renders of its own objects, against Blender's cameras and the objects' shapes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import mathutils
import numpy as np
import pytest
from bl_ext.dev.unrender.backend.capture import Capture, read_capture
from bl_ext.dev.unrender.operators import preflight, render_capture, render_capture_cameras
from bl_ext.dev.unrender.operators.collect_steps import SteppedOperator
from bl_ext.dev.unrender.operators.render_capture_scene import StudioScene

from tests.operators import collect_scenes as scenes
from tests.operators.scene_parts import lit_world

SIZE = 64


def settings(**changes: Any) -> Any:
    """The scene's settings for a quick render."""
    ours = bpy.context.scene.unrender.render_capture
    for key, value in {"views": 6, "size": SIZE, "samples": 4, "engine": "CYCLES", "holdout": 3, **changes}.items():
        setattr(ours, key, value)
    return ours


def cube() -> Any:
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=(2.0, -1.0, 0.5), rotation=(0.3, 0.2, 0.1))
    bpy.context.object.scale = (1.0, 0.6, 1.5)
    bpy.context.view_layer.update()
    return bpy.context.object


def render(folder: Path) -> Capture:
    bpy.context.scene.unrender.collect.folder = str(folder)
    assert bpy.ops.unrender.render_capture() == {"FINISHED"}
    return read_capture(folder)


def picture(path: Path) -> np.ndarray:
    """[H, W, 4] of a file, top row first."""
    image = bpy.data.images.load(str(path))
    pixels = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[::-1]
    bpy.data.images.remove(image)
    return pixels


def inside_hull(points: np.ndarray, size: int) -> np.ndarray:
    """[size, size] how deep each pixel's center lies in the convex hull of points [P, 2]; negative outside."""
    ordered = sorted(map(tuple, points))

    def half(sequence: list[Any]) -> list[Any]:
        chain: list[Any] = []
        for x, y in sequence:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    corners = np.array(half(ordered) + half(ordered[::-1]))
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([-edges[:, 1], edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1)[:, None]
    y, x = np.mgrid[0:size, 0:size] + 0.5
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    return ((pixels[:, None] - corners[None]) * normals[None]).sum(-1).min(axis=1).reshape(size, size)


def test_cameras_and_masks_of_a_cube(tmp_path: Path) -> None:
    lit_world()
    item = cube()
    settings(layout="TURNTABLE")
    capture = render(tmp_path / "capture")
    assert len(capture.views) == 6 and not capture.warnings
    assert [view.split for view in capture.views] == ["test", "train", "train"] * 2
    local = np.array([tuple(vertex.co) for vertex in item.data.vertices])
    matrix = np.array(item.matrix_world)
    corners = local @ matrix[:3, :3].T + matrix[:3, 3]
    viewer: Any = scenes.add_camera("viewer")
    viewer.data.lens, viewer.data.shift_x, viewer.data.shift_y = render_capture_cameras.LENS, 0.0, 0.0
    viewer.data.sensor_width = render_capture_cameras.SENSOR
    for view in capture.views:
        viewer.matrix_world = mathutils.Matrix(view.cam_to_world.tolist())
        bpy.context.view_layer.update()
        shown = scenes.blender_pixels(viewer, viewer.matrix_world, corners, SIZE, SIZE)
        assert np.abs(scenes.capture_pixels(view, corners) - shown).max() < 1e-3
        assert shown.min() > 0.0 and shown.max() < SIZE  # the whole object is in the picture
        pixels = picture(view.image)
        depth = inside_hull(shown, SIZE)
        assert (pixels[..., 3][depth > 1.5] == 1.0).all() and (pixels[..., 3][depth < -1.5] == 0.0).all()
        assert 0.08 < (depth > 0).mean() < 0.6
        assert pixels[..., :3][depth > 1.5].min() > 0.1  # the world lights it
    assert (capture.bounds[0] < corners.min(axis=0)).all() and (capture.bounds[1] > corners.max(axis=0)).all()
    assert np.ptp(capture.bounds, axis=0).max() < 1.2 * np.ptp(corners, axis=0).max()
    report = preflight.report_of(bpy.context.scene)
    assert report is not None and "6 views of 64 x 64, 2 of them held out" in report.summary
    assert not preflight.region_differs(bpy.context.scene, report.bounds)
    assert Path(bpy.context.scene.unrender.capture) == tmp_path / "capture"


def test_a_dome_over_a_monkey_with_modifier_and_child(tmp_path: Path) -> None:
    light = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    bpy.context.scene.collection.objects.link(light)
    bpy.ops.mesh.primitive_plane_add(size=20.0)  # a floor, which is not selected
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.2, location=(1.6, 0.0, 0.0))
    child = bpy.context.object
    bpy.ops.mesh.primitive_monkey_add()
    monkey: Any = bpy.context.object
    child.parent = monkey
    array = monkey.modifiers.new("array", "ARRAY")
    array.count, array.relative_offset_displace = 2, (0.0, 0.0, 1.0)
    bpy.context.scene.view_settings.exposure = 0.5
    settings(layout="DOME", holdout=0)
    capture = render(tmp_path / "capture")
    assert [view.exposure for view in capture.views] == [0.5] * 6
    assert capture.bounds[1, 2] > 2.0 and capture.bounds[1, 0] > 1.8  # the modifier, the child
    centers = np.stack([view.center for view in capture.views])
    middle = capture.bounds.mean(axis=0)
    elevation = np.degrees(np.arcsin((centers - middle)[:, 2] / np.linalg.norm(centers - middle, axis=1)))
    assert elevation.max() > 45 and elevation.min() > -20.5 and (np.diff(elevation) < 0).all()
    for view in capture.views:
        pixels = picture(view.image)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert border[:, 3].max() == 0.0  # no floor, nothing cut off
        assert 0.1 < (pixels[..., 3] > 0.5).mean() < 0.7
    assert max(picture(view.image)[..., :3].max() for view in capture.views) > 0.5


def everything() -> dict[str, Any]:
    """Every plain setting of the scene, and which datablocks there are."""
    found: dict[str, Any] = {}
    scene: Any = bpy.context.scene
    owners = {"scene": scene, "render": scene.render, "image": scene.render.image_settings, "cycles": scene.cycles}
    owners |= {"view": scene.view_settings, "display": scene.display_settings, "eevee": scene.eevee}
    owners |= {"world": scene.world.cycles} if scene.world else {}
    for name, owner in owners.items():
        for prop in owner.bl_rna.properties:
            if getattr(prop, "is_deprecated", False) or prop.identifier == "use_nodes":  # reading it warns
                continue
            if prop.type in ("BOOLEAN", "INT", "FLOAT", "STRING", "ENUM") and not prop.is_readonly:
                value = getattr(owner, prop.identifier)
                found[f"{name}.{prop.identifier}"] = (
                    value if isinstance(value, (bool, int, float, str)) else repr(value)
                )
    for kind in ("scenes", "objects", "cameras", "images", "worlds", "meshes", "collections"):
        found[kind] = [block.name for block in getattr(bpy.data, kind) if block.name != "Render Result"]
    found["camera"] = scene.camera
    return found


def test_the_artists_scene_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lit_world()
    cube()
    scene: Any = bpy.context.scene
    scene.frame_set(7)
    scene.render.engine, scene.render.resolution_percentage = "BLENDER_WORKBENCH", 37
    scene.render.filepath, scene.render.film_transparent = str(tmp_path / "own_"), False
    settings(views=3)
    before = everything()
    render(tmp_path / "capture")
    assert everything() == before

    def fail(studio: StudioScene, pose: np.ndarray, path: Path) -> np.ndarray:
        path.write_bytes(b"half")
        raise render_capture.UserError("Blender could not render", where=str(path))

    monkeypatch.setattr(StudioScene, "render", fail)
    scene.unrender.collect.folder = str(tmp_path / "fails")
    before = everything()
    with pytest.raises(RuntimeError, match="could not render"):
        bpy.ops.unrender.render_capture()
    assert everything() == before
    assert not (tmp_path / "fails").exists()


class Window:
    """What a modal operator asks of a window manager; there is none without a window."""

    def __init__(self) -> None:
        self.progress: list[int] = []
        self.open = 0
        self.status: str | None = None
        self.window_manager = self.workspace = self.window = self

    def event_timer_add(self, seconds: float, window: object) -> object:
        self.open += 1
        return object()

    def event_timer_remove(self, timer: object) -> None:
        self.open -= 1

    def progress_begin(self, low: int, high: int) -> None:
        self.open += 1

    def progress_end(self) -> None:
        self.open -= 1

    def progress_update(self, value: int) -> None:
        self.progress.append(value)

    def status_text_set(self, text: str | None) -> None:
        self.status = text


@pytest.mark.parametrize("how", ["ESC", "file load", "finish"])
def test_esc_cancels_without_a_trace(tmp_path: Path, how: str) -> None:
    """The steps of the operator itself, driven as a window drives them."""
    lit_world()
    item = cube()
    scene: Any = bpy.context.scene
    chosen = settings(views=3)
    before = everything()
    window = Window()
    operator = SteppedOperator()
    said: list[str] = []
    operator._report = lambda kind, text: said.append(text)  # type: ignore[method-assign]
    operator._steps = render_capture.render_capture(scene, [item], tmp_path / "capture", False, chosen)
    operator._timer = window.event_timer_add(0.1, window)
    window.progress_begin(0, 1000)
    tick, key = SimpleNamespace(type="TIMER"), SimpleNamespace(type="ESC")
    assert operator.modal(window, tick) == {"RUNNING_MODAL"}
    assert operator.modal(window, SimpleNamespace(type="MOUSEMOVE")) == {"RUNNING_MODAL"}
    assert operator.modal(window, tick) == {"RUNNING_MODAL"}
    assert window.progress == [0, 333] and "view 2 (2 of 3)" in str(window.status) and "Esc" in str(window.status)
    assert (tmp_path / "capture").is_dir() and not (tmp_path / "capture/capture.json").exists()
    if how == "ESC":
        assert operator.modal(window, key) == {"CANCELLED"} and "Cancelled" in said[0]
    elif how == "file load":
        operator.cancel(window)
    else:
        assert operator.modal(window, tick) == {"RUNNING_MODAL"}
        assert operator.modal(window, tick) == {"FINISHED"}
    assert window.open == 0 and window.status is None
    assert everything() == before
    assert (tmp_path / "capture").exists() == (how == "finish")


def test_what_cannot_be_rendered(tmp_path: Path) -> None:
    assert not bpy.ops.unrender.render_capture.poll()
    item = cube()
    scene: Any = bpy.context.scene
    scene.unrender.collect.folder = str(tmp_path / "capture")
    settings(views=3)
    with pytest.raises(RuntimeError, match="nothing lights the objects"):
        bpy.ops.unrender.render_capture()
    lit_world()
    settings(lowest=0.5, highest=0.2)
    with pytest.raises(RuntimeError, match="lowest camera is not below"):
        bpy.ops.unrender.render_capture()
    item.data.clear_geometry()
    settings(lowest=0.0, highest=1.0)
    with pytest.raises(RuntimeError, match="no size|nothing of the selected"):
        bpy.ops.unrender.render_capture()
    assert not (tmp_path / "capture").exists()
    item.hide_render = True
    assert not bpy.ops.unrender.render_capture.poll()


def test_rendering_again_replaces_ones_own_and_opening_it_keeps_it(tmp_path: Path) -> None:
    lit_world()
    cube()
    settings(views=3)
    render(tmp_path / "capture")
    capture = render(tmp_path / "capture")
    assert sorted(path.name for path in (tmp_path / "capture").iterdir()) == ["capture.json", "unrender_views_2"]
    bpy.ops.unrender.open_capture(filepath=str(tmp_path / "capture"))
    assert bpy.ops.unrender.collect() == {"FINISHED"}  # into the same folder, which it refers to
    again = read_capture(tmp_path / "capture")
    for old, new in zip(capture.views, again.views):
        assert new.image.resolve() == old.image.resolve() and new.image.is_file() and new.split == old.split
        np.testing.assert_allclose(new.cam_to_world, old.cam_to_world, atol=1e-6)
