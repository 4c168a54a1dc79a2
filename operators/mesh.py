# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Blender mesh of a reconstruction straight from arrays."""

import bpy
import numpy as np

from .glb import GlbMesh

UV_NAME = "UVMap"
# Blender's own smooth normals are kept unless the file's differ by more than this at one corner in a hundred: custom
# normals survive few edits, and a mesh without them is the better thing to work on.
CUSTOM_NORMALS_ABOVE = 2.0  # degrees


def build_mesh(source: GlbMesh, name: str) -> bpy.types.Mesh:
    """One smooth triangle mesh with one UV map, outside the scene. Degenerate triangles are dropped."""
    keep = (source.triangles != np.roll(source.triangles, 1, axis=1)).all(axis=1)
    triangles = np.ascontiguousarray(source.triangles[keep])  # [T, 3] int32
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(source.positions))
    mesh.vertices.foreach_set("co", source.positions.ravel())
    mesh.loops.add(triangles.size)
    mesh.loops.foreach_set("vertex_index", triangles.ravel())
    mesh.polygons.add(len(triangles))
    mesh.polygons.foreach_set("loop_start", np.arange(0, triangles.size, 3, dtype=np.int32))
    if source.corner_uvs is not None:
        layer = mesh.uv_layers.new(name=UV_NAME, do_init=False)
        layer.uv.foreach_set("vector", np.ascontiguousarray(source.corner_uvs[keep]).ravel())
    mesh.update(calc_edges=True)
    mesh.shade_smooth()
    mesh.validate()  # two triangles on the same corners, edges used wrongly: rare, and Blender may crash on them later
    if source.corner_normals is not None and len(mesh.polygons) == len(triangles):
        wanted = source.corner_normals[keep].reshape(-1, 3)
        if normal_deviation(mesh, wanted) > CUSTOM_NORMALS_ABOVE:
            mesh.normals_split_custom_set(wanted)
    return mesh


def normal_deviation(mesh: bpy.types.Mesh, wanted: np.ndarray) -> float:
    """The 99th percentile of the angle between the mesh's corner normals and `wanted` [L, 3], in degrees."""
    own = np.empty(len(mesh.loops) * 3, np.float32)
    mesh.corner_normals.foreach_get("vector", own)
    cosine = np.einsum("lc,lc->l", own.reshape(-1, 3), wanted)
    return float(np.degrees(np.arccos(np.clip(np.quantile(cosine, 0.01), -1, 1)))) if len(cosine) else 0.0
