# SPDX-License-Identifier: GPL-3.0-or-later
"""asset.glb: one mesh, one primitive, one metallic-roughness material, written and read without a glTF library.

The world is Z up, glTF is Y up: (x, y, z) becomes (x, z, −y), which is what Blender's importer undoes. Nodes carry no
transform, so that the vertices alone say where the mesh stands. Texture coordinates have v up here and v down in glTF.
(Khronos, glTF 2.0 specification.)
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .asset import Asset, FloatArray, IntArray
from .textures import decode_png, encode_textures, linear_from_srgb, normals_from_bytes

MAGIC, VERSION, CHUNK_JSON, CHUNK_BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
UNSIGNED_BYTE, UNSIGNED_SHORT, UNSIGNED_INT, FLOAT = 5121, 5123, 5125, 5126
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071
DTYPES = {UNSIGNED_BYTE: np.uint8, UNSIGNED_SHORT: np.uint16, UNSIGNED_INT: np.uint32, FLOAT: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def gltf_from_world(vectors: FloatArray) -> FloatArray:
    """Z-up to Y-up: positions or directions [..., 3]."""
    return np.stack([vectors[..., 0], vectors[..., 2], -vectors[..., 1]], axis=-1)


def world_from_gltf(vectors: FloatArray) -> FloatArray:
    """Y-up to Z-up: positions or directions [..., 3]."""
    return np.stack([vectors[..., 0], -vectors[..., 2], vectors[..., 1]], axis=-1)


def weld_corners(
    triangles: IntArray, uvs: FloatArray, tangents: FloatArray | None = None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32]]:
    """Merge triangle corners that share vertex, texture coordinates and tangent.

    Returns (corners [N], indices [T, 3]): the first of the 3·T flattened corners that each glTF vertex stands for, in
    order of the vertices they use, and the glTF vertex of every corner.
    """
    keys = [triangles.reshape(-1).astype(np.uint32)]
    attributes = [uvs] if tangents is None else [uvs, tangents]
    for attribute in attributes:
        # adding zero turns −0 into 0, so that equal values have equal bits
        keys.extend((attribute.reshape(keys[0].size, -1) + np.float32(0)).view(np.uint32).T)
    order = np.lexsort(keys[::-1])
    is_first = np.zeros(len(order), bool)
    is_first[:1] = True
    for key in keys:
        ordered = key[order]
        is_first[1:] |= ordered[1:] != ordered[:-1]
    indices = np.empty(len(order), np.uint32)
    indices[order] = np.cumsum(is_first, dtype=np.uint32) - 1
    return order[is_first], indices.reshape(-1, 3)


class _Buffer:
    """The binary chunk being filled, with the views and accessors that describe it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_view(self, data: bytes, target: int | None = None) -> int:
        self.data.extend(b"\0" * (-len(self.data) % 4))
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self.data.extend(data)
        self.views.append(view)
        return len(self.views) - 1

    def add_accessor(self, array: npt.NDArray[Any], kind: str, target: int, bounds: bool = False) -> int:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        component = FLOAT if array.dtype == np.float32 else UNSIGNED_INT
        accessor: dict[str, Any] = {"bufferView": self.add_view(little.tobytes(), target), "componentType": component}
        accessor |= {"count": array.size // WIDTHS[kind], "type": kind}
        if bounds:
            rows = array.reshape(-1, WIDTHS[kind])
            accessor |= {"min": rows.min(axis=0).tolist(), "max": rows.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def encode_glb(
    asset: Asset,
    textures: Mapping[str, bytes] | None = None,
    generator: str = "Unrender",
    copyright: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of asset.glb.

    `textures` are the PNG files of `encode_textures(asset)`, where they exist already. `copyright` and `provenance`
    (any JSON object) go into the `asset` object of the file, the latter as its extras.
    """
    assert len(asset.triangles), "a glTF mesh needs at least one triangle"
    textures = encode_textures(asset) if textures is None else textures
    corners, indices = weld_corners(asset.triangles, asset.uvs, asset.tangents)
    vertex_of_corner = asset.triangles.reshape(-1)[corners]
    normals = asset.normals[vertex_of_corner].astype(np.float64)
    normals = (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)
    uvs = asset.uvs.reshape(-1, 2)[corners]
    uvs = np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=-1)

    buffer = _Buffer()
    index_accessor = buffer.add_accessor(indices, "SCALAR", ELEMENT_ARRAY_BUFFER, bounds=True)
    positions = gltf_from_world(asset.vertices[vertex_of_corner])
    attributes = {
        "POSITION": buffer.add_accessor(positions, "VEC3", ARRAY_BUFFER, bounds=True),
        "NORMAL": buffer.add_accessor(gltf_from_world(normals), "VEC3", ARRAY_BUFFER),
        "TEXCOORD_0": buffer.add_accessor(uvs, "VEC2", ARRAY_BUFFER),
    }
    if asset.tangents is not None:
        tangents = asset.tangents.reshape(-1, 4)[corners]
        tangents = np.concatenate([gltf_from_world(tangents[:, :3]), np.sign(tangents[:, 3:])], axis=-1)
        attributes["TANGENT"] = buffer.add_accessor(tangents, "VEC4", ARRAY_BUFFER)
    image_names = list(textures)
    images = [
        {"name": f"{asset.name}_{name}", "mimeType": "image/png", "bufferView": buffer.add_view(textures[name])}
        for name in image_names
    ]
    slots = {name: {"index": index} for index, name in enumerate(image_names)}
    material = {
        "name": asset.name,
        "doubleSided": False,
        "pbrMetallicRoughness": {"baseColorTexture": slots["BaseColor"], "metallicRoughnessTexture": slots["ORM"]},
        "normalTexture": slots["Normal"],
    }
    header: dict[str, Any] = {"version": "2.0", "generator": generator}
    if copyright:
        header["copyright"] = copyright
    if provenance:
        header["extras"] = dict(provenance)
    document = {
        "asset": header,
        "scene": 0,
        "scenes": [{"name": asset.name, "nodes": [0]}],
        "nodes": [{"name": asset.name, "mesh": 0}],
        "meshes": [
            {
                "name": asset.name,
                "primitives": [{"attributes": attributes, "indices": index_accessor, "material": 0, "mode": 4}],
            }
        ],
        "materials": [material],
        "textures": [{"sampler": 0, "source": index} for index in range(len(images))],
        "samplers": [
            {
                "magFilter": LINEAR,
                "minFilter": LINEAR_MIPMAP_LINEAR,
                "wrapS": CLAMP_TO_EDGE,
                "wrapT": CLAMP_TO_EDGE,
            }
        ],
        "images": images,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    return _pack(document, bytes(buffer.data))


def _pack(document: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    total = 12 + 8 + len(text) + 8 + len(data)
    assert total < 2**32, f"a binary glTF file holds less than 4 GiB, this one needs {total} bytes"
    return b"".join(
        [
            struct.pack("<III", MAGIC, VERSION, total),
            struct.pack("<II", len(text), CHUNK_JSON),
            text,
            struct.pack("<II", len(data), CHUNK_BIN),
            data,
        ]
    )


def split_glb(file: bytes, where: str) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary chunk of a GLB file. Raises UserError naming `where` if it is damaged."""

    def damaged(found: str) -> UserError:
        return UserError(
            what="cannot read this file",
            where=where,
            expected="a complete binary glTF 2.0 file",
            found=found,
            remedy="Write the result again.",
        )

    if len(file) < 12:
        raise damaged(f"{len(file)} bytes")
    magic, version, total = struct.unpack_from("<III", file)
    if magic != MAGIC or version != VERSION:
        raise damaged("another kind of file")
    if total != len(file):
        raise damaged(f"{len(file)} bytes where its header says {total}")
    chunks: dict[int, bytes] = {}
    offset = 12
    while offset + 8 <= total:
        length, kind = struct.unpack_from("<II", file, offset)
        chunks.setdefault(kind, file[offset + 8 : offset + 8 + length])
        offset += 8 + length
    if CHUNK_JSON not in chunks or CHUNK_BIN not in chunks:
        raise damaged("no JSON or no binary chunk")
    try:
        document = json.loads(chunks[CHUNK_JSON])
    except ValueError as error:
        raise damaged(f"JSON that does not parse ({error})") from error
    return document, chunks[CHUNK_BIN]


def read_accessor(document: dict[str, Any], data: bytes, index: int) -> npt.NDArray[Any]:
    """One accessor as an array [count, width] of its own component type."""
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    width, dtype = WIDTHS[accessor["type"]], np.dtype(DTYPES[accessor["componentType"]]).newbyteorder("<")
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", width * dtype.itemsize)
    shape, strides = (accessor["count"], width), (stride, dtype.itemsize)
    return np.ndarray(shape, dtype, data, start, strides).astype(dtype.newbyteorder("="))


def read_glb(path: Path) -> dict[str, Any]:
    """Read an asset.glb back as the fields of `Asset`, all but its environment.

    Vertices are those of the file: welded corners, so a vertex on a texture seam comes back once per side.
    Raises UserError where the file is missing, damaged, or not of the form that `encode_glb` writes.
    """
    try:
        file = path.read_bytes()
    except OSError as error:
        raise UserError(
            what="cannot read the mesh", where=str(path), expected="a readable file", found=error.strerror or str(error)
        ) from error
    document, data = split_glb(file, str(path))
    try:
        return _fields(document, data, str(path))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            what="this glTF file is not of our making",
            where=str(path),
            expected="one mesh with POSITION, NORMAL and TEXCOORD_0 and three embedded textures",
            found=f"{type(error).__name__} {error}",
        ) from error


def _fields(document: dict[str, Any], data: bytes, where: str) -> dict[str, Any]:
    (mesh,) = document["meshes"]
    (primitive,) = mesh["primitives"]
    attributes = primitive["attributes"]
    triangles = read_accessor(document, data, primitive["indices"]).reshape(-1, 3).astype(np.int32)
    uvs = read_accessor(document, data, attributes["TEXCOORD_0"])
    uvs = np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=-1)

    def texture(slot: dict[str, int]) -> npt.NDArray[np.uint8]:
        image = document["images"][document["textures"][slot["index"]]["source"]]
        view = document["bufferViews"][image["bufferView"]]
        start = view.get("byteOffset", 0)
        return decode_png(data[start : start + view["byteLength"]], f"{where}, image {image.get('name', '')}")

    material = document["materials"][primitive["material"]]
    surface = material["pbrMetallicRoughness"]
    orm = texture(surface["metallicRoughnessTexture"]).astype(np.float32) / np.float32(255)
    fields: dict[str, Any] = {
        "vertices": world_from_gltf(read_accessor(document, data, attributes["POSITION"])),
        "triangles": triangles,
        "normals": world_from_gltf(read_accessor(document, data, attributes["NORMAL"])),
        "uvs": uvs[triangles],
        "base_color": linear_from_srgb(texture(surface["baseColorTexture"]).astype(np.float32) / np.float32(255)),
        "roughness": np.ascontiguousarray(orm[..., 1]),
        "metallic": np.ascontiguousarray(orm[..., 2]),
        "normal_map": normals_from_bytes(texture(material["normalTexture"])),
        "name": mesh.get("name", "Asset"),
    }
    if "TANGENT" in attributes:
        tangents = read_accessor(document, data, attributes["TANGENT"])
        fields["tangents"] = np.concatenate([world_from_gltf(tangents[:, :3]), tangents[:, 3:]], axis=-1)[triangles]
    return fields
