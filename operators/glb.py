# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the triangle mesh of an `asset.glb` into arrays in Blender's axes (no bpy).

Blender's own importer would do for the eye, but leaves what glTF had to do to the mesh: vertices split along UV seams,
custom normals, a material of its own wiring. Here the arrays come out ready for one clean mesh. Specification:
https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.errors import UserError

_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
# glTF is Y up, Blender Z up: (x, y, z) becomes (x, -z, y).
_TO_BLENDER = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64)


@dataclass(frozen=True)
class GlbMesh:
    """One triangle mesh; vertices that differ only in UV or normal are one vertex."""

    positions: np.ndarray  # [V, 3] float32, Blender world
    triangles: np.ndarray  # [T, 3] int32, counter-clockwise from outside
    corner_normals: np.ndarray | None  # [T, 3, 3] float32, unit, Blender world
    corner_uvs: np.ndarray | None  # [T, 3, 2] float32, v up
    has_occlusion: bool  # the material names an occlusion texture
    generator: str


def read_glb(path: Path) -> GlbMesh:
    """Raises UserError when the file is damaged, holds no triangles or needs an extension of glTF."""
    document, buffer = _chunks(path)
    required = document.get("extensionsRequired", [])
    if required:
        raise UserError(
            "needs glTF extensions this importer does not read",
            where=str(path),
            expected="none",
            found=", ".join(required),
        )
    try:
        parts = [
            _primitive(document, buffer, primitive, matrix)
            for matrix, mesh in _placed_meshes(document)
            for primitive in mesh["primitives"]
            if primitive.get("mode", 4) == 4
        ]
        has_occlusion = any("occlusionTexture" in material for material in document.get("materials", []))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError("damaged glTF", where=str(path), found=f"{type(error).__name__} {error}") from error
    if not parts:
        raise UserError("no triangles in the file", where=str(path), expected="one mesh", found="none")
    positions, triangles = _weld(*_concatenate(parts))
    return GlbMesh(
        positions=positions,
        triangles=triangles,
        corner_normals=_corners(parts, 2),
        corner_uvs=_corners(parts, 3),
        has_occlusion=has_occlusion,
        generator=str(document.get("asset", {}).get("generator", "")),
    )


_Part = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]


def _chunks(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError("cannot read the file", where=str(path), found=error.strerror or str(error)) from error
    if len(data) < 20 or data[:4] != b"glTF":
        raise UserError("not a binary glTF file", where=str(path), expected="'glTF' at its start", found=repr(data[:4]))
    _, version, length = struct.unpack_from("<4sII", data)
    if version != 2 or length > len(data):
        raise UserError(
            "damaged glTF",
            where=str(path),
            expected=f"version 2, {length} bytes",
            found=f"version {version}, {len(data)} bytes",
        )
    document, buffer, offset = {}, b"", 12
    try:
        while offset + 8 <= length:
            size, kind = struct.unpack_from("<I4s", data, offset)
            chunk = data[offset + 8 : offset + 8 + size]
            if kind == b"JSON":
                document = json.loads(chunk)
            elif kind == b"BIN\0":
                buffer = chunk
            offset += 8 + size
    except ValueError as error:
        raise UserError("damaged glTF", where=str(path), found=str(error)) from error
    return document, buffer


def _accessor(document: dict[str, Any], buffer: bytes, index: int) -> np.ndarray:
    """[count, width] of any accessor that lies in the GLB's own buffer."""
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
    width, count = _WIDTHS[accessor["type"]], accessor["count"]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", dtype.itemsize * width)
    values = np.ndarray((count, width), dtype, buffer, start, (stride, dtype.itemsize))
    if accessor.get("normalized"):
        return np.maximum(values / np.float32(np.iinfo(dtype).max), -1).astype(np.float32)
    return values


def _placed_meshes(document: dict[str, Any]) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Each mesh of the default scene with its matrix into Blender's world."""
    nodes = document.get("nodes", [])
    scenes = document.get("scenes", [])
    roots = scenes[document.get("scene", 0)].get("nodes", []) if scenes else range(len(nodes))
    found = []
    stack = [(index, _TO_BLENDER, 0) for index in reversed(list(roots))]
    while stack:
        index, parent, depth = stack.pop()
        if depth > len(nodes):
            raise ValueError("nodes that are their own parents")
        node = nodes[index]
        matrix = parent @ _local_matrix(node)
        if "mesh" in node:
            found.append((matrix, document["meshes"][node["mesh"]]))
        stack += [(child, matrix, depth + 1) for child in reversed(node.get("children", []))]
    return found


def _local_matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.array(node.get("scale", (1.0, 1.0, 1.0)))
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix


def _primitive(document: dict[str, Any], buffer: bytes, primitive: dict[str, Any], matrix: np.ndarray) -> _Part:
    """Positions [V, 3], triangles [T, 3], normals [V, 3], UVs [V, 2] of one primitive, in Blender's axes."""
    attributes = primitive["attributes"]
    positions = _accessor(document, buffer, attributes["POSITION"]).astype(np.float64)
    positions = positions @ matrix[:3, :3].T + matrix[:3, 3]
    indices = (
        _accessor(document, buffer, primitive["indices"])[:, 0] if "indices" in primitive else np.arange(len(positions))
    )
    triangles = indices.astype(np.int32).reshape(-1, 3)
    if triangles.size and triangles.max() >= len(positions):
        raise ValueError(f"triangle corner {triangles.max()} of {len(positions)} vertices")
    if np.linalg.det(matrix[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    normals = uvs = None
    if "NORMAL" in attributes:
        normals = _accessor(document, buffer, attributes["NORMAL"]) @ np.linalg.inv(matrix[:3, :3])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    if "TEXCOORD_0" in attributes:
        uvs = _accessor(document, buffer, attributes["TEXCOORD_0"]).astype(np.float32)
        uvs = np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1)
    return positions, triangles, normals, uvs


def _concatenate(parts: list[_Part]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    positions = np.concatenate([part[0] for part in parts]).astype(np.float32)
    return positions, np.concatenate([part[1] + np.int32(start) for part, start in zip(parts, starts)])


def _corners(parts: list[_Part], attribute: int) -> np.ndarray | None:
    """[T, 3, C] float32: a per-vertex attribute at each triangle's corners; None unless every part has it."""
    values = []
    for part in parts:
        value = part[attribute]
        if value is None:
            return None
        values.append(value[part[1]].astype(np.float32))
    return np.concatenate(values)


def _weld(positions: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins vertices at the very same place (the copies glTF needs along seams), in order of first appearance."""
    keys = np.ascontiguousarray(positions + np.float32(0)).view(np.dtype((np.void, 12))).ravel()  # + 0: -0 equals 0
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return positions[first[order]], rank[inverse.reshape(-1)][triangles].astype(np.int32)
