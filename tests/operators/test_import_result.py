# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing a result folder: what stands in the file afterwards, and what does not when the folder is damaged."""

import json
from pathlib import Path

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.backend.errors import UserError
from bl_ext.dev.unrender.operators import capture_camera, place_result
from bl_ext.dev.unrender.operators.place_result import Options

from tests.operators import sample_result

KINDS = ("collections", "objects", "meshes", "materials", "images", "worlds", "cameras", "node_groups")


def run_import(folder: Path, **options: object) -> set[str]:
    return bpy.ops.unrender.import_result(directory=str(folder), **options)


def counts() -> dict[str, int]:
    return {kind: len(getattr(bpy.data, kind)) for kind in KINDS}


def source_of(socket: bpy.types.NodeSocket) -> bpy.types.NodeSocket:
    assert len(socket.links) == 1, socket.name
    return socket.links[0].from_socket


def node_of(material: bpy.types.Material, kind: str) -> bpy.types.Node:
    (node,) = (node for node in material.node_tree.nodes if node.bl_idname == kind)
    return node


def test_mesh_is_clean_and_stands_where_the_file_says(result: Path) -> None:
    assert run_import(result) == {"FINISHED"}
    box = bpy.data.objects[sample_result.NAME]
    mesh = box.data
    # The 24 vertices that glTF needs for six charts are the eight corners of one box again.
    assert (len(mesh.vertices), len(mesh.edges), len(mesh.polygons)) == (8, 18, 12)
    assert np.allclose(box.matrix_world, np.eye(4))
    corners = np.array([vertex.co for vertex in mesh.vertices])
    assert np.allclose(corners.min(axis=0), sample_result.CENTER - sample_result.SIZE / 2, atol=1e-6)
    assert np.allclose(corners.max(axis=0), sample_result.CENTER + sample_result.SIZE / 2, atol=1e-6)
    assert [layer.name for layer in mesh.uv_layers] == ["UVMap"]
    assert not mesh.validate()
    for polygon in mesh.polygons:
        assert polygon.use_smooth
        outward = np.array(polygon.center) - sample_result.CENTER
        assert np.dot(outward, polygon.normal) > 0
    assert bpy.context.view_layer.objects.active == box and box.select_get()


def test_texture_coordinates_hit_the_right_texels(result: Path) -> None:
    run_import(result)
    mesh = bpy.data.objects[sample_result.NAME].data
    cells = sample_result.textures()["BaseColor"][::-1]  # row 0 at the bottom, as UVs count
    faces = np.array([face[0] for face in sample_result._FACES])
    for polygon in mesh.polygons:
        face = int(np.argmax(faces @ np.array(polygon.normal)))
        u, v = np.mean([mesh.uv_layers[0].uv[loop].vector for loop in polygon.loop_indices], axis=0)
        texel = cells[int(v * cells.shape[0]), int(u * cells.shape[1])]
        assert texel[0] == face * 40 + 30


def test_custom_normals_only_where_they_matter(result: Path, own_result: Path) -> None:
    run_import(result)
    assert not bpy.data.objects["Box"].data.has_custom_normals  # its normals are those that Blender finds itself
    positions, _, uvs, triangles = sample_result.box()
    flat = np.repeat([face[0] for face in sample_result._FACES], 4, axis=0)  # each face's own, at all its corners
    (own_result / "asset.glb").write_bytes(sample_result.glb(positions, flat, uvs, triangles))
    run_import(own_result, name="Flat")
    mesh = bpy.data.objects["Flat"].data
    assert mesh.has_custom_normals
    for polygon in mesh.polygons:
        for loop in polygon.loop_indices:
            assert np.allclose(mesh.corner_normals[loop].vector, polygon.normal, atol=1e-3)


def test_material_is_wired_for_the_shared_orm_texture(result: Path) -> None:
    run_import(result)
    material = bpy.data.materials[sample_result.NAME]
    shader = node_of(material, "ShaderNodeBsdfPrincipled")
    separate = node_of(material, "ShaderNodeSeparateColor")
    normal_map = node_of(material, "ShaderNodeNormalMap")
    assert source_of(shader.inputs["Roughness"]) == separate.outputs["Green"]
    assert source_of(shader.inputs["Metallic"]) == separate.outputs["Blue"]
    assert source_of(shader.inputs["Normal"]) == normal_map.outputs["Normal"]
    spaces = {
        "BaseColor": (source_of(shader.inputs["Base Color"]).node, "sRGB"),
        "ORM": (source_of(separate.inputs["Color"]).node, "Non-Color"),
        "Normal": (source_of(normal_map.inputs["Color"]).node, "Non-Color"),
    }
    for kind, (texture, space) in spaces.items():
        assert texture.image.name == f"{sample_result.NAME}_{kind}"
        assert texture.image.colorspace_settings.name == space
        assert texture.extension == "EXTEND"
    assert material.use_backface_culling
    assert shader.inputs["IOR"].default_value == pytest.approx(1.5)
    assert not any(node.bl_idname == "ShaderNodeGroup" for node in material.node_tree.nodes)  # no occlusion in the file


def test_occlusion_goes_to_the_group_that_gltf_export_reads(tmp_path: Path) -> None:
    run_import(sample_result.write(tmp_path / "result", occlusion=True))
    material = bpy.data.materials[sample_result.NAME]
    group = node_of(material, "ShaderNodeGroup")
    assert group.node_tree.name == "glTF Material Output"
    assert source_of(group.inputs["Occlusion"]) == node_of(material, "ShaderNodeSeparateColor").outputs["Red"]
    run_import(tmp_path / "result", name="Second")
    assert len(bpy.data.node_groups) == 1


def test_one_collection_with_children(result: Path) -> None:
    run_import(result)
    (collection,) = bpy.context.scene.collection.children
    assert collection.name == "Box"
    contents = {child.name: sorted(item.name for item in child.objects) for child in collection.children}
    assert contents == {
        "Box Asset": ["Box"],
        "Box Cameras": ["Box front", "Box side"],
        "Box Reference": ["Box Contact Sheet"],
    }
    assert bpy.data.collections["Box Reference"].hide_render
    assert not bpy.data.objects["Box Contact Sheet"].visible_get()


def test_provenance_is_kept(result: Path) -> None:
    run_import(result)
    for owner in (bpy.data.collections["Box"], bpy.data.objects["Box"]):
        assert owner["unrender_result"] == str(result)
        assert json.loads(owner["unrender_versions"]) == {"unrender": "0.1.0"}
        assert json.loads(owner["unrender_metrics"]) == {"psnr": 30.0}


def test_world_is_new_and_taken_up_where_the_scene_has_none(result: Path) -> None:
    run_import(result)
    world = bpy.data.worlds["Box"]
    assert bpy.context.scene.world == world
    (texture,) = (node for node in world.node_tree.nodes if node.bl_idname == "ShaderNodeTexEnvironment")
    assert texture.image.colorspace_settings.name == "Linear Rec.709"
    assert texture.image.is_float and not texture.inputs["Vector"].is_linked
    pixels = np.empty(16 * 32 * 4, np.float32)
    texture.image.pixels.foreach_get(pixels)
    assert np.allclose(pixels.reshape(16, 32, 4)[::-1, :, :3], sample_result.environment())


def test_the_users_own_world_is_kept(result: Path) -> None:
    own = bpy.data.worlds.new("Mine")
    if own.node_tree is None:
        own.use_nodes = True
    next(n for n in own.node_tree.nodes if n.bl_idname == "ShaderNodeBackground").inputs["Color"].default_value = (
        1,
        0,
        0,
        1,
    )
    bpy.context.scene.world = own
    run_import(result)
    assert bpy.context.scene.world == own
    assert bpy.data.worlds["Box"].use_fake_user  # kept when the file is saved, though nothing uses it
    run_import(result, name="Again", world="ALWAYS")
    assert bpy.context.scene.world == bpy.data.worlds["Again"] and "Mine" in bpy.data.worlds


def test_the_grey_world_of_a_new_file_gives_way(result: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert bpy.context.scene.world is not None
    run_import(result)
    assert bpy.context.scene.world == bpy.data.worlds["Box"]
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    grey = bpy.context.scene.world
    run_import(result, world="NEVER")
    assert bpy.context.scene.world == grey


def test_cameras_see_what_the_photographs_saw(result: Path) -> None:
    run_import(result)
    scene = bpy.context.scene
    for entry in sample_result.cameras():
        camera = bpy.data.objects[f"Box {entry['name']}"]
        frame = capture_camera.Frame(*camera["unrender_resolution"], *camera["unrender_pixel_aspect"])
        pinhole = capture_camera.intrinsics_from_lens(capture_camera.read_lens(camera.data), frame)
        assert np.allclose(pinhole, [entry[key] for key in ("width", "height", "fx", "fy", "cx", "cy")], atol=1e-4)
        assert np.allclose(camera.matrix_world, entry["cam_to_world"], atol=1e-6)
        assert camera["unrender_split"] == entry["split"]
        assert camera.data.clip_start < 1e-2 and camera.data.clip_end > 10
    assert scene.camera.name == "Box front"  # the scene had none
    assert (scene.render.resolution_x, scene.render.resolution_y) == (64, 48)


def test_photographs_stand_behind_their_cameras(result: Path) -> None:
    run_import(result)
    front, side = bpy.data.cameras["Box front"], bpy.data.cameras["Box side"]
    assert front.show_background_images
    assert Path(bpy.path.abspath(front.background_images[0].image.filepath)) == result.parent / sample_result.PHOTO
    assert len(side.background_images) == 0  # its photograph is not there
    run_import(result, name="Bare", photographs=False)
    assert len(bpy.data.cameras["Bare front"].background_images) == 0
    run_import(result, name="None", cameras=False)
    assert "None front" not in bpy.data.cameras


def test_missing_photographs_are_counted(result: Path) -> None:
    placed = place_result.place_result(result, bpy.context.scene)
    assert placed.notes == ["1 of 2 photographs are not on this machine"]


def test_the_capture_option_says_where_photographs_are(own_result: Path, tmp_path: Path) -> None:
    document = json.loads((own_result / "cameras.json").read_text())
    document["images"] = "/nowhere"
    (own_result / "cameras.json").write_text(json.dumps(document))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (own_result.parent / "photos").rename(elsewhere / "photos")
    assert place_result.read_result(own_result).missing_photos == 2
    assert place_result.read_result(own_result, elsewhere).missing_photos == 1
    (elsewhere / "transforms.json").write_text("{}")
    assert place_result.read_result(own_result, elsewhere / "transforms.json").missing_photos == 1


def test_lens_distortion_is_mentioned(own_result: Path) -> None:
    document = json.loads((own_result / "cameras.json").read_text())
    document["views"][0]["distortion"] = [0.1, 0.0]
    (own_result / "cameras.json").write_text(json.dumps(document))
    (note,) = place_result.read_result(own_result).notes
    assert note.startswith("1 photographs have lens distortion")


def test_textures_are_packed_in_an_unsaved_file_and_survive_saving(result: Path, tmp_path: Path) -> None:
    run_import(result)
    blend = tmp_path / "file.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    for kind in ("BaseColor", "ORM", "Normal", "Environment"):
        image = bpy.data.images[f"Box_{kind}"]
        assert image.packed_file is not None and image.has_data or image.size[0] > 0
    pixels = np.empty(16 * 24 * 4, np.float32)
    bpy.data.images["Box_ORM"].pixels.foreach_get(pixels)
    stored = (pixels.reshape(16, 24, 4)[::-1, :, :3] * 255).round()
    assert np.array_equal(stored, sample_result.textures()["ORM"])


def test_textures_lie_beside_a_saved_file_with_relative_paths(result: Path, tmp_path: Path) -> None:
    blend = tmp_path / "file.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    run_import(result)
    for kind, suffix in (("BaseColor", "png"), ("ORM", "png"), ("Normal", "png"), ("Environment", "exr")):
        image = bpy.data.images[f"Box_{kind}"]
        assert image.filepath == f"//textures/Box/Box_{kind}.{suffix}"
        assert image.packed_file is None
        assert (tmp_path / "textures" / "Box" / f"Box_{kind}.{suffix}").is_file()
    assert sorted(path.suffix for path in (tmp_path / "textures" / "Box").iterdir()) == [".exr", *[".png"] * 4]


def test_another_assets_textures_are_not_overwritten(result: Path, tmp_path: Path) -> None:
    folder = tmp_path / "textures" / "Box"
    folder.mkdir(parents=True)
    (folder / "Box_ORM.png").write_bytes(b"somebody else's")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    run_import(result)
    run_import(result)  # the same bytes are not stored twice
    assert bpy.data.images["Box_ORM"].filepath == "//textures/Box/Box_ORM_1.png"
    assert (folder / "Box_ORM.png").read_bytes() == b"somebody else's"
    assert sorted(path.name for path in folder.glob("Box_ORM*")) == ["Box_ORM.png", "Box_ORM_1.png"]


def test_a_name_need_not_be_one_of_a_file(result: Path, tmp_path: Path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    run_import(result, name="Left/Right: 50%")
    image = bpy.data.images["Left/Right: 50%_ORM"]
    assert Path(bpy.path.abspath(image.filepath)).parent.parent == tmp_path / "textures" and image.size[0] == 24


def test_all_parts_of_a_second_import_are_numbered_alike(result: Path) -> None:
    run_import(result)
    run_import(result)
    collection = bpy.context.scene.collection.children[-1]
    assert [child.name for child in collection.children] == [
        "Box.001 Asset",
        "Box.001 Cameras",
        "Box.001 Reference",
    ]
    asset = bpy.data.objects["Box.001"]
    assert (asset.data.name, asset.active_material.name) == ("Box.001", "Box.001")


def test_pack_keeps_textures_inside_a_saved_file(result: Path, tmp_path: Path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    run_import(result, pack=True)
    assert bpy.data.images["Box_ORM"].packed_file is not None
    assert not (tmp_path / "textures").exists()


def test_a_job_folder_or_a_file_in_the_result_will_do(result: Path) -> None:
    assert run_import(result.parent) == {"FINISHED"}
    assert run_import(result / "asset.glb") == {"FINISHED"}


def test_view_transform_changes_only_on_request(result: Path) -> None:
    view = bpy.context.scene.view_settings
    view.view_transform = "AgX"
    run_import(result)
    assert view.view_transform == "AgX"
    run_import(result, match_view=True)
    assert view.view_transform == "Standard"


def test_import_is_one_undo_step(result: Path) -> None:
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.ed.undo_push(message="before")
    before = counts()
    bpy.ops.unrender.import_result("EXEC_DEFAULT", True, directory=str(result))
    assert counts()["objects"] == before["objects"] + 4
    bpy.ops.ed.undo()
    assert counts() == before
    bpy.ops.ed.redo()
    assert "Box" in bpy.data.objects


def damage(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


@pytest.mark.parametrize(
    "file,data,word",
    [
        ("asset.glb", None, "not a result"),
        ("asset.glb", b"", "binary glTF"),
        ("asset.glb", b"glTF" + b"\2\0\0\0" + b"\xff" * 40, "damaged"),
        ("asset.glb", sample_result.pack_glb({"asset": {"version": "2.0"}}, b""), "no triangles"),
        ("asset.glb", sample_result.pack_glb({"nodes": [{"mesh": 3}], "scenes": [{"nodes": [0]}]}, b""), "damaged"),
        (
            "asset.glb",
            sample_result.pack_glb({"nodes": [{"children": [0]}], "scenes": [{"nodes": [0]}]}, b""),
            "parents",
        ),
        ("asset.glb", sample_result.pack_glb({"extensionsRequired": ["KHR_draco_mesh_compression"]}, b""), "draco"),
        ("textures/Box_BaseColor.png", None, "cannot tell the textures"),
        ("textures/Box_ORM.png", b"no picture", "not a picture"),
        ("environment.exr", b"no picture", "not a picture"),
        ("cameras.json", b"{", "cannot be read as JSON"),
        ("cameras.json", b'{"views": 3}', "not a list"),
        ("cameras.json", b'{"views": [{"name": "a"}]}', "camera is damaged"),
        ("cameras.json", b'{"views": [7]}', "camera is damaged"),
        ("report.json", b"[]", "not a JSON object"),
    ],
)
def test_damaged_results_leave_nothing_behind(own_result: Path, file: str, data: bytes | None, word: str) -> None:
    damage(own_result / file, data)
    before = counts()
    with pytest.raises(UserError) as caught:
        place_result.place_result(own_result, bpy.context.scene)
    assert word in str(caught.value) and "\n" not in str(caught.value)
    assert counts() == before
    with pytest.raises(RuntimeError, match="Error"):  # how an operator's error report arrives in a script
        run_import(own_result)
    assert counts() == before


@pytest.mark.parametrize("missing", ["environment.exr", "cameras.json", "report.json", "contact_sheet.png"])
def test_a_result_without_extras_still_imports(own_result: Path, missing: str) -> None:
    (own_result / missing).unlink()
    placed = place_result.place_result(own_result, bpy.context.scene, Options(name="Part"))
    assert placed.asset.name == "Part"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        place_result.place_result(tmp_path / "nowhere", bpy.context.scene)
