# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of photograph and reconstruction: what can be told without a window."""

from pathlib import Path
from types import SimpleNamespace

import addon_utils
import bpy
import mathutils
import numpy as np
import pytest
from bl_ext.dev.unrender.operators import wipe, wipe_draw
from bl_ext.dev.unrender.operators.wipe import Rectangle, fitted

from tests.operators import extension


@pytest.fixture
def camera(tmp_path: Path) -> bpy.types.Object:
    """A camera with a photograph of 40 by 30 pixels behind it."""
    data = bpy.data.cameras.new("camera")
    made = bpy.data.objects.new("camera", data)
    bpy.context.scene.collection.objects.link(made)
    image = bpy.data.images.new("photo", 40, 30)
    data.background_images.new().image = image
    data.show_background_images = True
    bpy.context.scene.camera = made
    bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y = 40, 30
    return made


def test_the_toggle_hides_photographs_and_brings_them_back(camera: bpy.types.Object) -> None:
    plain = bpy.data.objects.new("plain", bpy.data.cameras.new("plain"))
    off = bpy.data.objects.new("off", bpy.data.cameras.new("off"))
    for other in (plain, off):
        bpy.context.scene.collection.objects.link(other)
    plain.data.show_background_images = True
    off.data.background_images.new().image = bpy.data.images["photo"]
    settings = bpy.context.scene.unrender
    settings.wipe = True
    assert [c.data.show_background_images for c in (camera, plain, off)] == [False, True, False]
    settings.wipe = True  # again changes nothing
    settings.wipe = False
    assert [c.data.show_background_images for c in (camera, plain, off)] == [True, True, False]
    assert wipe.HIDDEN not in camera.data


def test_it_is_switched_back_after_saving_and_opening(camera: bpy.types.Object, tmp_path: Path) -> None:
    bpy.context.scene.unrender.wipe = True
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file.blend"))
    assert bpy.context.scene.unrender.wipe and not bpy.data.cameras["camera"].show_background_images
    bpy.context.scene.unrender.wipe = False
    assert bpy.data.cameras["camera"].show_background_images


def test_it_is_switched_back_when_the_extension_goes(camera: bpy.types.Object) -> None:
    bpy.context.scene.unrender.wipe = True
    try:
        addon_utils.disable(extension.MODULE, default_set=True)
        assert camera.data.show_background_images and wipe.HIDDEN not in camera.data
    finally:
        extension.enable()
    assert not bpy.context.scene.unrender.wipe


def test_a_photograph_is_found(camera: bpy.types.Object) -> None:
    photo = wipe.photo_of(camera)
    assert photo is not None and photo.image == bpy.data.images["photo"]
    camera.data.background_images[0].image = None
    assert wipe.photo_of(camera) is None
    camera.data.background_images[0].source = "MOVIE_CLIP"
    assert wipe.photo_of(camera) is None
    assert wipe.photo_of(None) is None
    assert wipe.photo_of(bpy.data.objects.new("empty", None)) is None


FRAME = Rectangle(100.0, 50.0, 300.0, 150.0)  # 2:1


@pytest.mark.parametrize(
    "aspect,method,wanted",
    [
        (2.0, "FIT", FRAME),
        (2.0, "CROP", FRAME),
        (1.0, "STRETCH", FRAME),
        (1.0, "FIT", (150.0, 50.0, 250.0, 150.0)),
        (1.0, "CROP", (100.0, 0.0, 300.0, 200.0)),
        (4.0, "FIT", (100.0, 75.0, 300.0, 125.0)),
        (4.0, "CROP", (0.0, 50.0, 400.0, 150.0)),
    ],
)
def test_where_a_photograph_lies_in_the_frame(aspect: float, method: str, wanted: tuple[float, ...]) -> None:
    assert tuple(fitted(FRAME, aspect, method)) == pytest.approx(wanted)


def test_the_frame_is_where_the_camera_sees_it(camera: bpy.types.Object) -> None:
    """A view of the camera's own, as wide as its frame: the frame fills the region."""
    camera.matrix_world = mathutils.Matrix.LocRotScale((1, 2, 3), mathutils.Euler((0.5, 0.3, 1.0)), (2, 2, 2))
    scene = bpy.context.scene
    depsgraph = bpy.context.evaluated_depsgraph_get()
    view = camera.matrix_world.normalized().inverted()
    window = camera.calc_matrix_camera(depsgraph, x=40, y=30)
    region = SimpleNamespace(width=800, height=600)
    view_data = SimpleNamespace(perspective_matrix=window @ view, view_matrix=view, is_perspective=True)
    frame = wipe.frame_of(region, view_data, scene, camera)
    assert frame is not None
    assert tuple(frame) == pytest.approx((0, 0, 800, 600), abs=0.01)
    assert wipe.frame_of(None, None, scene, camera) is None


def test_without_a_viewport_there_is_a_reason(camera: bpy.types.Object) -> None:
    assert "Numpad 0" in wipe.why_no_wipe(bpy.context)
    assert not bpy.ops.unrender.drag_wipe.poll()
    space = next(space for area in bpy.data.screens[0].areas for space in area.spaces if space.type == "VIEW_3D")
    through = SimpleNamespace(view_perspective="CAMERA")
    context = SimpleNamespace(space_data=space, region_data=through, scene=bpy.context.scene)
    assert wipe.camera_of_view(context) == camera and wipe.why_no_wipe(context) == ""
    camera.data.background_images.clear()
    assert "no photograph" in wipe.why_no_wipe(context)
    through.view_perspective = "PERSP"
    assert wipe.camera_of_view(context) is None


def test_the_sidebar_knows_how_its_viewport_looks(camera: bpy.types.Object) -> None:
    space = next(space for area in bpy.data.screens[0].areas for space in area.spaces if space.type == "VIEW_3D")
    sidebar = SimpleNamespace(space_data=space, region_data=None, scene=bpy.context.scene)
    for perspective, wanted in (("CAMERA", camera), ("PERSP", None)):
        space.region_3d.view_perspective = perspective
        assert wipe.camera_of_view(sidebar) == wanted


def test_drawing_leaves_out_what_cannot_be_drawn(camera: bpy.types.Object) -> None:
    wipe_draw.draw()  # off
    bpy.context.scene.unrender.wipe = True
    wipe_draw.draw()  # no viewport here


def test_dragging_follows_the_mouse(camera: bpy.types.Object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wipe, "camera_of_view", lambda context: camera)
    monkeypatch.setattr(wipe, "frame_of", lambda *_: Rectangle(100, 0, 300, 100))
    region = SimpleNamespace(type="WINDOW", x=50)
    area = SimpleNamespace(regions=[region], tag_redraw=lambda: None)
    manager = SimpleNamespace(modal_handler_add=lambda operator: True)
    context = SimpleNamespace(
        scene=bpy.context.scene, area=area, space_data=None, region_data=None, window_manager=manager
    )
    settings = bpy.context.scene.unrender
    settings.wipe_position = 0.25
    dragging = SimpleNamespace(_follow=lambda *given: wipe.UNRENDER_OT_drag_wipe._follow(dragging, *given))

    def send(kind: str, x: int = 0, value: str = "PRESS") -> set[str]:
        event = SimpleNamespace(type=kind, value=value, mouse_x=x)
        return wipe.UNRENDER_OT_drag_wipe.modal(dragging, context, event)

    assert wipe.UNRENDER_OT_drag_wipe.invoke(dragging, context, None) == {"RUNNING_MODAL"}
    assert settings.wipe
    for x, wanted in ((250, 0.5), (0, 0.0), (900, 1.0), (300, 0.75)):
        assert send("MOUSEMOVE", x) == {"RUNNING_MODAL"}
        assert settings.wipe_position == pytest.approx(wanted)
    assert send("LEFTMOUSE", value="RELEASE") == {"RUNNING_MODAL"}  # of the click that began it
    assert send("ESC") == {"CANCELLED"}
    assert settings.wipe_position == pytest.approx(0.25) and not settings.wipe
    wipe.UNRENDER_OT_drag_wipe.invoke(dragging, context, None)
    send("MOUSEMOVE", 300)
    assert send("LEFTMOUSE") == {"FINISHED"}
    assert settings.wipe_position == pytest.approx(0.75) and settings.wipe
    assert np.isfinite(settings.wipe_position)
