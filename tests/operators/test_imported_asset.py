# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with an imported result: its world, the photographs' colors, the asset browser, fewer triangles."""

import json
from pathlib import Path

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.operators import asset_find, asset_preview, lods, match_view
from bl_ext.dev.unrender.operators.place_result import place_result

from tests.operators import sample_result

VIEW = ("view_transform", "look", "exposure", "gamma", "use_curve_mapping", "use_white_balance")


@pytest.fixture
def asset(result: Path) -> bpy.types.Object:
    bpy.ops.unrender.import_result(directory=str(result), world="NEVER")
    return bpy.data.objects["Box"]


def finely_divided(asset: bpy.types.Object) -> int:
    """Makes 12 triangles 3072, as a modifier of the artist's would; returns how many."""
    modifier = asset.modifiers.new("Subdivision", "SUBSURF")
    modifier.levels, modifier.subdivision_type, modifier.uv_smooth = 4, "SIMPLE", "NONE"
    return 12 * 3 * 4**3 * 2


def test_its_world_and_back_again(asset: bpy.types.Object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    own = scene.world = bpy.data.worlds.new("Mine")
    assert bpy.ops.unrender.use_world() == {"FINISHED"}
    assert scene.world == bpy.data.worlds["Box"]
    blend = str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    bpy.ops.wm.open_mainfile(filepath=blend)
    scene = bpy.context.scene
    own = bpy.data.worlds["Mine"]  # though no scene used it while the file was saved
    assert bpy.ops.unrender.use_world() == {"FINISHED"}
    assert scene.world == own
    own.name = "Other"
    bpy.ops.unrender.use_world()
    bpy.data.worlds.remove(own)
    assert bpy.ops.unrender.use_world() == {"CANCELLED"}  # there is none to go back to
    assert scene.world == bpy.data.worlds["Box"]


def test_the_grey_world_that_gave_way_can_come_back(result: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    grey = bpy.context.scene.world
    bpy.ops.unrender.import_result(directory=str(result))
    assert bpy.context.scene.world != grey
    bpy.ops.unrender.use_world()
    assert bpy.context.scene.world == grey


def test_buttons_say_why_they_do_nothing() -> None:
    for operator in (bpy.ops.unrender.use_world, bpy.ops.unrender.make_lods, bpy.ops.unrender.mark_asset):
        assert not operator.poll()
        with pytest.raises(RuntimeError, match="Import a result first"):
            operator()


def test_the_active_object_says_which_result(result: Path, own_result: Path) -> None:
    first = place_result(result, bpy.context.scene)
    second = place_result(own_result, bpy.context.scene)
    layer = bpy.context.view_layer
    for placed in (first, second):
        for item in (placed.asset, placed.cameras[1]):
            layer.objects.active = item
            assert asset_find.active_result(bpy.context) == placed.collection
            assert asset_find.active_asset(bpy.context) == placed.asset
            assert asset_find.world_of(placed.collection) == placed.world
    layer.objects.active = None
    assert asset_find.active_asset(bpy.context) == second.asset


def test_the_photographs_colors_and_back(asset: bpy.types.Object) -> None:
    scene = bpy.context.scene
    view = scene.view_settings
    view.view_transform = "AgX"
    view.look = "AgX - Punchy"
    view.exposure, view.gamma, view.use_curve_mapping, view.use_white_balance = 0.5, 1.2, True, True
    scene.cycles.film_exposure = 2.0
    before = [getattr(view, key) for key in VIEW]
    assert bpy.ops.unrender.match_view() == {"FINISHED"}
    assert [getattr(view, key) for key in VIEW] == ["Standard", "None", 0.0, 1.0, False, False]
    assert scene.cycles.film_exposure == 1.0 and match_view.matches(scene)
    assert bpy.ops.unrender.match_view() == {"FINISHED"}
    assert [getattr(view, key) for key in VIEW] == before
    assert scene.cycles.film_exposure == 2.0
    view.view_transform, view.exposure, view.gamma = "Standard", 0.0, 1.0
    view.look, view.use_curve_mapping, view.use_white_balance, scene.cycles.film_exposure = "None", False, False, 1.0
    assert bpy.ops.unrender.match_view() == {"CANCELLED"}  # it was set by hand: there is nothing to go back to


def test_undo_brings_the_colors_back(asset: bpy.types.Object) -> None:
    bpy.context.scene.view_settings.view_transform = "AgX"
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.unrender.match_view("EXEC_DEFAULT", True)
    assert bpy.context.scene.view_settings.view_transform == "Standard"
    bpy.ops.ed.undo()
    assert bpy.context.scene.view_settings.view_transform == "AgX"
    assert not match_view.can_go_back(bpy.context.scene)


def test_the_asset_browser_says_where_it_came_from(own_result: Path, tmp_path: Path) -> None:
    report = json.loads((own_result / "report.json").read_text())
    report["settings"] = {"preset": "draft"}
    report["provenance"] = {"tool": "Unrender 0.1.0", "photographs": 76, "written": "2026-01-02T03:04:05Z"}
    report["versions"]["torch"] = "2.9.1"
    (own_result / "report.json").write_text(json.dumps(report))
    bpy.ops.unrender.import_result(directory=str(own_result))
    blend = str(tmp_path / "library.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(blend, assets_only=True) as (listed, _):
        assert listed.objects == ["Box"] and not listed.worlds and not listed.collections
    bpy.ops.wm.open_mainfile(filepath=blend)
    asset = bpy.data.objects["Box"]
    entry = asset.asset_data
    assert [tag.name for tag in entry.tags] == ["Unrender", "Reconstruction", "Draft"]
    assert entry.author == "Unrender 0.1.0"
    assert entry.description == (
        "Reconstructed from 76 photographs with Unrender 0.1.0 (preset draft) on 2026-01-02. "
        "12 triangles, textures of 24 × 16. Computed with torch 2.9.1."
    )
    assert tuple(asset.preview.image_size) == (256, 256)
    pixels = np.array(asset.preview.image_pixels_float).reshape(256, 256, 4)
    assert 0.2 < (pixels[:, :, 3] == 1).mean() < 0.8


def test_the_object_appended_elsewhere_brings_its_material_and_no_world(
    asset: bpy.types.Object, tmp_path: Path
) -> None:
    blend = str(tmp_path / "library.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(blend) as (_, wanted):
        wanted.objects = ["Box"]
    assert len(bpy.data.materials) == 1 and len(bpy.data.images) == 3
    assert not bpy.data.worlds and not bpy.data.cameras


def test_no_asset_entry_unless_wanted_and_later_by_a_button(result: Path) -> None:
    bpy.ops.unrender.import_result(directory=str(result), asset_entry=False)
    asset = bpy.data.objects["Box"]
    assert asset.asset_data is None and not asset.use_fake_user
    assert bpy.ops.unrender.mark_asset() == {"FINISHED"}
    assert asset.asset_data.description.startswith("Reconstructed with test.")
    bpy.ops.unrender.mark_asset()
    assert len(asset.asset_data.tags) == 2  # no tag twice


def test_the_preview_shows_what_a_camera_sees() -> None:
    """A box from the front: the color of that face in the middle, nothing in the corners, nothing of the back."""
    positions, normals, uvs, triangles = sample_result.box()
    texels = sample_result.textures()["BaseColor"][::-1] / np.float32(255)
    for face in range(6):
        normal, right, up = (np.array(axis, np.float32) for axis in sample_result._FACES[face])
        view = np.stack([right, up, normal], axis=1)
        picture = asset_preview.draw(positions[triangles], normals[triangles], uvs[triangles], texels, view)
        color = picture[128, 128, :3]
        expected = np.array([face * 40 + 30, 200 - face * 30, 60])
        assert np.allclose(color / color[2], expected / 60, atol=0.02)  # its light is the same for all channels
        assert (picture[0, 0] == 0).all()
        size = [abs(float(sample_result.SIZE @ axis)) for axis in (right, up)]
        covered = (picture[:, :, 3] > 0.5).mean()
        assert covered == pytest.approx(0.94**2 * min(size) / max(size), abs=0.01)
        assert picture[:, :, 3].max() == 1


def test_levels_of_detail(asset: bpy.types.Object) -> None:
    full = finely_divided(asset)
    assert bpy.ops.unrender.make_lods(count=3, ratio=0.5) == {"FINISHED"}
    levels = lods.lods_of(asset)
    assert [name for name, _ in levels] == ["Box_LOD1", "Box_LOD2", "Box_LOD3"]
    for level, (name, triangles) in enumerate(levels, 1):
        assert triangles == pytest.approx(full * 0.5**level, abs=3)
        lod = bpy.data.objects[name]
        assert lod.active_material == asset.active_material and not lod.modifiers and lod.asset_data is None
        assert [layer.name for layer in lod.data.uv_layers] == ["UVMap"]
        assert lod.matrix_world == asset.matrix_world and not lod.data.validate()
        assert not lod.visible_get() and not lod.select_get()
    collection = bpy.data.collections["Box LODs"]
    assert collection.hide_render and collection.name in bpy.data.collections["Box Asset"].children
    assert (
        len(asset.data.polygons) == 12 and asset.visible_get() and asset.select_get()
    )  # the asset itself is as it was


def test_levels_of_detail_keep_their_colors(asset: bpy.types.Object) -> None:
    """The texture says which side of the box a point is on: at a quarter of the triangles it still does."""
    finely_divided(asset)
    bpy.ops.unrender.make_lods(count=2)
    mesh = bpy.data.objects["Box_LOD2"].data
    cells = sample_result.textures()["BaseColor"][::-1]
    faces = np.array([face[0] for face in sample_result._FACES])
    right = total = 0.0
    for polygon in mesh.polygons:
        u, v = np.mean([mesh.uv_layers[0].uv[loop].vector for loop in polygon.loop_indices], axis=0)
        texel = cells[int(v * cells.shape[0]), int(u * cells.shape[1])]
        total += polygon.area
        right += polygon.area * bool(texel[0] == np.argmax(faces @ np.array(polygon.normal)) * 40 + 30)
    assert right > 0.98 * total


def test_levels_of_detail_again_take_the_place_of_the_first(asset: bpy.types.Object) -> None:
    finely_divided(asset)
    bpy.ops.unrender.make_lods(count=3)
    meshes = len(bpy.data.meshes)
    asset.name = "Crate"
    bpy.ops.unrender.make_lods(count=2, ratio=0.25)
    assert [name for name, _ in lods.lods_of(asset)] == ["Crate_LOD1", "Crate_LOD2"]
    assert len(bpy.data.meshes) == meshes - 1


def test_levels_of_detail_end_where_nothing_is_left(asset: bpy.types.Object) -> None:
    with pytest.raises(RuntimeError, match="too few triangles"):
        bpy.ops.unrender.make_lods(ratio=0.1)
    assert lods.lods_of(asset) == [] and "Box LODs" not in bpy.data.collections
    assert bpy.ops.unrender.make_lods(count=8, ratio=0.5) == {"FINISHED"}
    assert 1 <= len(lods.lods_of(asset)) < 3


def test_levels_of_detail_are_one_undo_step(asset: bpy.types.Object) -> None:
    finely_divided(asset)
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.unrender.make_lods("EXEC_DEFAULT", True)
    bpy.ops.ed.undo()
    assert "Box_LOD1" not in bpy.data.objects and "Box LODs" not in bpy.data.collections
