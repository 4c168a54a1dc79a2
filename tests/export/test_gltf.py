# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from backend.errors import UserError
from backend.export import gltf
from backend.export.asset import Asset
from backend.export.textures import base_color_bytes, decode_png

from .shapes import cube


def written(tmp_path: Path, asset: Asset) -> Path:
    path = tmp_path / "asset.glb"
    path.write_bytes(gltf.encode_glb(asset))
    return path


def test_container_follows_the_specification():
    file = gltf.encode_glb(cube(), generator="Test", copyright="CC0", provenance={"images": 3})
    magic, version, total = struct.unpack_from("<4sII", file)
    assert (magic, version, total) == (b"glTF", 2, len(file))
    length, kind = struct.unpack_from("<I4s", file, 12)
    assert kind == b"JSON" and length % 4 == 0
    text = file[20 : 20 + length]
    document = json.loads(text)
    assert text.rstrip(b" ") == text.rstrip()  # padded with spaces
    data_length, data_kind = struct.unpack_from("<I4s", file, 20 + length)
    assert data_kind == b"BIN\0" and data_length % 4 == 0 and 28 + length + data_length == total
    assert document["buffers"] == [{"byteLength": document["buffers"][0]["byteLength"]}]
    assert 0 <= data_length - document["buffers"][0]["byteLength"] < 4
    asset = document["asset"]
    assert asset == {"version": "2.0", "generator": "Test", "copyright": "CC0", "extras": {"images": 3}}


@pytest.mark.parametrize("tangents", [False, True])
def test_accessors_say_what_the_data_is(tangents: bool):
    document, data = gltf.split_glb(gltf.encode_glb(cube(tangents=tangents)), "")
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= len(data)
    (primitive,) = document["meshes"][0]["primitives"]
    attributes = {name: gltf.read_accessor(document, data, index) for name, index in primitive["attributes"].items()}
    indices = gltf.read_accessor(document, data, primitive["indices"])
    assert set(attributes) == {"POSITION", "NORMAL", "TEXCOORD_0"} | ({"TANGENT"} if tangents else set())
    assert {len(values) for values in attributes.values()} == {24}
    assert indices.dtype == np.uint32 and indices.shape == (36, 1) and set(indices[:, 0]) == set(range(24))
    for name, index in [*primitive["attributes"].items(), ("indices", primitive["indices"])]:
        accessor = document["accessors"][index]
        target = document["bufferViews"][accessor["bufferView"]]["target"]
        assert target == (34963 if name == "indices" else 34962)
        values = indices if name == "indices" else attributes[name]
        if "min" in accessor:
            assert accessor["min"] == values.min(axis=0).tolist() and accessor["max"] == values.max(axis=0).tolist()
    assert "min" in document["accessors"][primitive["attributes"]["POSITION"]]
    if tangents:
        assert (attributes["TANGENT"][:, 3] == 1).all()
        assert np.abs((attributes["TANGENT"][:, :3] * attributes["NORMAL"]).sum(-1)).max() < 1e-6


def test_material_and_names():
    document, data = gltf.split_glb(gltf.encode_glb(cube()), "")
    (material,) = document["materials"]
    assert {thing["name"] for key in ("nodes", "meshes", "materials") for thing in document[key]} == {"Cube"}
    assert "matrix" not in document["nodes"][0] and "rotation" not in document["nodes"][0]
    assert material["doubleSided"] is False and "occlusionTexture" not in material
    assert [image["name"] for image in document["images"]] == ["Cube_BaseColor", "Cube_ORM", "Cube_Normal"]
    slots = material["pbrMetallicRoughness"] | {"normal": material["normalTexture"]}
    for key, image in (("baseColorTexture", 0), ("metallicRoughnessTexture", 1), ("normal", 2)):
        assert document["textures"][slots[key]["index"]]["source"] == image
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    png = data[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    assert "target" not in view and (decode_png(png, "") == base_color_bytes(cube().base_color)).all()


def test_axes_turn_and_return():
    up, forward = np.array([[0, 0, 1]], np.float32), np.array([[0, 1, 0]], np.float32)
    assert gltf.gltf_from_world(up).tolist() == [[0, 1, 0]]
    assert gltf.gltf_from_world(forward).tolist() == [[0, 0, -1]]
    points = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    assert (gltf.world_from_gltf(gltf.gltf_from_world(points)) == points).all()


def test_corners_weld_by_vertex_and_texture_coordinates():
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uvs = np.array([[[0, 0], [1, 0], [1, 1]], [[-0.0, 0], [0.5, 1], [0, 1]]], np.float32)
    corners, indices = gltf.weld_corners(triangles, uvs)
    assert len(corners) == 5  # vertex 0 is shared, minus zero included; vertex 2 lies on a seam
    assert indices[0, 0] == indices[1, 0] and indices[0, 2] != indices[1, 1]
    assert (triangles.reshape(-1)[corners][indices] == triangles).all()
    assert (uvs.reshape(-1, 2)[corners][indices] == uvs).all()


def test_unused_vertices_stay_out(tmp_path: Path):
    asset = cube()
    vertices = np.concatenate([asset.vertices, np.full((1, 3), 99, np.float32)])
    normals = np.concatenate([asset.normals, np.array([[1, 0, 0]], np.float32)])
    fields = gltf.read_glb(written(tmp_path, replace(asset, vertices=vertices, normals=normals)))
    assert len(fields["vertices"]) == 24


@pytest.mark.parametrize("tangents", [False, True])
def test_round_trip(tmp_path: Path, tangents: bool):
    asset = cube(tangents=tangents)
    again = Asset(**gltf.read_glb(written(tmp_path, asset)), environment=asset.environment)
    assert (again.vertices[again.triangles] == asset.vertices[asset.triangles]).all()
    assert (again.normals[again.triangles] == asset.normals[asset.triangles]).all()
    assert np.abs(again.uvs - asset.uvs).max() < 1e-7
    assert (base_color_bytes(again.base_color) == base_color_bytes(asset.base_color)).all()
    assert np.abs(again.roughness - asset.roughness).max() <= 0.501 / 255
    assert (again.metallic == asset.metallic).all()
    assert np.abs(again.normal_map - asset.normal_map).max() < 0.01
    assert again.name == "Cube"
    if asset.tangents is not None and again.tangents is not None:
        assert (again.tangents == asset.tangents).all()


def test_another_reader_agrees(tmp_path: Path):
    asset = cube()
    scene: Any = trimesh.load(written(tmp_path, asset))
    (mesh,) = scene.geometry.values()
    assert mesh.is_winding_consistent and mesh.volume == pytest.approx(8)
    flat = gltf.world_from_gltf(np.asarray(mesh.vertices, np.float32))
    assert np.allclose(flat.min(axis=0), asset.vertices.min(axis=0)) and np.allclose(
        flat.max(axis=0), asset.vertices.max(axis=0)
    )
    uv = np.asarray(mesh.visual.uv)[mesh.faces]  # trimesh flips v, as we do
    assert np.abs(np.sort(uv.reshape(-1, 2), axis=0) - np.sort(asset.uvs.reshape(-1, 2), axis=0)).max() < 1e-6
    assert mesh.visual.material.baseColorTexture.size == (96, 96)
    assert mesh.visual.material.doubleSided is False


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: b"", "found 0 bytes"),
        (lambda file: b"ply\nformat ascii 1.0\n", "another kind of file"),
        (lambda file: file[:-100], "where its header says"),
        (lambda file: file[:20] + b"?" + file[21:], "JSON that does not parse"),
        (lambda file: file.replace(b"TEXCOORD_0", b"TEXCOORD_7"), "not of our making.*TEXCOORD_0"),
        (lambda file: file.replace(b"\x89PNG", b"\x89JPG"), "image Cube_.*cannot decode"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damage: Any, message: str):
    path = tmp_path / "asset.glb"
    path.write_bytes(damage(gltf.encode_glb(cube())))
    with pytest.raises(UserError, match=f"asset.glb.*{message}"):
        gltf.read_glb(path)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="asset.glb: cannot read the mesh"):
        gltf.read_glb(tmp_path / "asset.glb")
