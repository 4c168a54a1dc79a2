# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporting the imported asset again with Blender's own glTF exporter, with no edit in between."""

import json
import struct
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.operators import glb

from tests.operators import sample_result


def export(path: Path, **options: object) -> dict[str, Any]:
    """The JSON of the exported file."""
    bpy.ops.export_scene.gltf(filepath=str(path), **options)
    data = path.read_bytes()
    (size,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + size])


@pytest.fixture
def exported(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    bpy.ops.unrender.import_result(directory=str(sample_result.write(tmp_path / "result", occlusion=True)))
    path = tmp_path / "again.glb"
    return export(path, use_selection=True), path  # the import selects the asset


def test_one_texture_serves_occlusion_roughness_and_metallic(exported: tuple[dict[str, Any], Path]) -> None:
    document, _ = exported
    (material,) = document["materials"]
    surface = material["pbrMetallicRoughness"]
    orm = surface["metallicRoughnessTexture"]["index"]
    assert material["occlusionTexture"]["index"] == orm
    assert len(document["images"]) == len(document["textures"]) == 3
    assert {surface["baseColorTexture"]["index"], orm, material["normalTexture"]["index"]} == {0, 1, 2}
    assert not material.get("doubleSided", False)
    assert {image["mimeType"] for image in document["images"]} == {"image/png"}
    for factor in ("metallicFactor", "roughnessFactor", "baseColorFactor"):
        assert np.all(np.array(surface.get(factor, 1)) == 1)


def test_texture_files_go_through_untouched(exported: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    document, path = exported
    data = path.read_bytes()
    (size,) = struct.unpack_from("<I", data, 12)
    buffer = data[28 + size :]
    stored = []
    for image in document["images"]:
        view = document["bufferViews"][image["bufferView"]]
        stored.append(buffer[view.get("byteOffset", 0) :][: view["byteLength"]])
    for kind in ("BaseColor", "ORM", "Normal"):
        assert (tmp_path / "result" / "textures" / f"Box_{kind}.png").read_bytes() in stored


def test_the_mesh_reads_back_the_same(exported: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    _, path = exported
    before, after = glb.read_glb(tmp_path / "result" / "asset.glb"), glb.read_glb(path)

    def corners(mesh: glb.GlbMesh) -> np.ndarray:
        """Every corner as position, normal, UV; sorted, because the order of triangles is the exporter's affair."""
        assert mesh.corner_normals is not None and mesh.corner_uvs is not None
        rows = np.concatenate([mesh.positions[mesh.triangles], mesh.corner_normals, mesh.corner_uvs], axis=-1)
        rows = rows.reshape(-1, 8).round(3) + 0.0
        return rows[np.lexsort(rows.T)]

    assert len(before.positions) == len(after.positions) == 8
    assert np.allclose(corners(before), corners(after), atol=2e-3)


def test_the_whole_scene_with_levels_of_detail_shares_one_material(tmp_path: Path) -> None:
    """Textures beside the file, every custom property along, nothing selected by hand."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    bpy.context.scene.world = bpy.data.worlds.new("Mine")
    folder = sample_result.write(tmp_path / "result", occlusion=True)
    bpy.ops.unrender.import_result(directory=str(folder), world="ALWAYS", match_view=True)
    bpy.ops.unrender.make_lods(count=1)
    document = export(tmp_path / "again.glb", export_extras=True, export_cameras=True)
    nodes = {node["name"]: node for node in document["nodes"]}
    assert {"Box", "Box_LOD1", "Box front", "Box side"} <= set(nodes)
    materials = {
        primitive["material"]
        for name in ("Box", "Box_LOD1")
        for primitive in document["meshes"][nodes[name]["mesh"]]["primitives"]
    }
    assert len(materials) == len(document["materials"]) == 1 and len(document["images"]) == 3
    assert json.loads(nodes["Box"]["extras"]["unrender_versions"]) == {"unrender": "0.1.0"}


def test_blenders_own_importer_agrees(result: Path) -> None:
    """The parity proof of DESIGN.md 3.4 starts from Blender's importer: it must see the same surface as ours."""
    bpy.ops.unrender.import_result(directory=str(result))
    bpy.ops.import_scene.gltf(filepath=str(result / "asset.glb"))
    theirs = next(item for item in bpy.context.selected_objects if item.type == "MESH")
    ours = bpy.data.objects["Box"]
    for item in (ours, theirs):
        item.data.calc_loop_triangles()

    def corners(item: bpy.types.Object) -> np.ndarray:
        mesh = item.data
        rows = []
        for polygon in mesh.polygons:
            for loop in polygon.loop_indices:
                place = item.matrix_world @ mesh.vertices[mesh.loops[loop].vertex_index].co
                rows.append((*place, *mesh.uv_layers[0].uv[loop].vector))
        array = np.array(rows).round(4) + 0.0
        return array[np.lexsort(array.T)]

    assert np.allclose(corners(ours), corners(theirs), atol=1e-3)
