# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh that a reconstruction starts from: any of the scene's, as it stands there with its modifiers."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import numpy as np

from ..backend.errors import UserError
from ..backend.job import JobFolder
from .blender_context import settings_of
from .collect_region import region_bounds, region_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAR = 5.0  # times as large as the region, or as small: a mesh that may be in another unit


def start_mesh_of(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The scene's choice, None where it has none.

    Raises UserError for one that is no mesh of the scene: an object that was deleted still hangs on its property.
    """
    chosen: bpy.types.Object | None = settings_of(scene).start_mesh
    if chosen is None or is_mesh_of(scene, chosen):
        return chosen
    raise UserError(
        "the mesh to start from is not in this scene",
        where=chosen.name,
        expected="a mesh object",
        found="one that was deleted, or stands in another scene" if chosen.type == "MESH" else chosen.type.lower(),
        remedy="Choose another one for Start From, or clear it.",
    )


def is_mesh_of(scene: bpy.types.Scene, item: bpy.types.Object) -> bool:
    """Whether a reconstruction in the scene could start from it."""
    return item.type == "MESH" and item.name in scene.objects and scene.objects[item.name] == item


def write_start_mesh(
    scene: bpy.types.Scene, chosen: bpy.types.Object, folder: Path, warn: Callable[[str], None]
) -> Path:
    """Writes it into the job `folder`, in the scene's world frame, which is the capture's; returns the file.

    `warn` hears of a size that is far from the region's. Raises UserError where it has no faces, stands outside the
    region, or cannot be written.
    """
    vertices, triangles = world_triangles(chosen)
    if not len(triangles) or not np.isfinite(vertices).all():
        raise UserError(
            "the mesh to start from cannot be used",
            where=chosen.name,
            expected="faces, and vertices that are finite",
            found="no faces" if not len(triangles) else "vertices that are not",
            remedy="Choose another object for Start From, or none.",
        )
    region = region_of(scene)
    if region is not None:
        low, high = region_bounds(region)
        if (vertices.max(0) < low).any() or (vertices.min(0) > high).any():
            raise UserError(
                "the mesh to start from stands outside the region",
                where=chosen.name,
                remedy="Move it to where the cameras see the object, or choose none for Start From.",
            )
        times = float(np.ptp(vertices, axis=0).max() / (high - low).max())
        if not 1 / FAR < times < FAR:
            warn(f"{chosen.name}: the mesh to start from is {times:.2g} times as large as the region. Is it in place?")
    path = JobFolder(folder).start_mesh
    draft = path.with_name(path.name + ".new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(ply(vertices, triangles))
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise UserError(
            "cannot write the mesh to start from",
            where=str(path),
            expected="a writable folder on a disk with space left",
            found=error.strerror or str(error),
            remedy="Choose another output folder.",
        ) from error
    return path


def withdraw_start_mesh(folder: Path) -> None:
    """Takes the mesh back from a job that never began, and the folder with it. One that cannot go stays: it harms
    nothing."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [JobFolder(folder).start_mesh.name]:
            JobFolder(folder).start_mesh.unlink()
            folder.rmdir()


def world_triangles(item: bpy.types.Object) -> "tuple[NDArray[np.float32], NDArray[np.int32]]":
    """Vertices [V, 3], world, and triangles [T, 3] of an object with its modifiers.

    Raises UserError for one that Blender does not evaluate: it would lack its modifiers, and stand where it once was.
    """
    layer = bpy.context.view_layer
    if item.hide_viewport or layer is None or not _is_enabled(item, layer.layer_collection):
        raise UserError(
            "the mesh to start from is disabled in the viewport, and so are its modifiers",
            where=item.name,
            remedy="Enable it or its collection in the Outliner (the monitor, or the check box); "
            "the eye may stay closed.",
        )
    evaluated = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    try:
        mesh.calc_loop_triangles()
        vertices = np.empty(3 * len(mesh.vertices), np.float32)
        triangles = np.empty(3 * len(mesh.loop_triangles), np.int32)
        mesh.vertices.foreach_get("co", vertices)
        mesh.loop_triangles.foreach_get("vertices", triangles)
    finally:
        evaluated.to_mesh_clear()
    matrix = np.array(evaluated.matrix_world, np.float64)
    world = vertices.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    corners = triangles.reshape(-1, 3)
    if np.linalg.det(matrix[:3, :3]) < 0:  # a mirrored object
        corners = corners[:, ::-1]
    return world.astype(np.float32), corners


def _is_enabled(item: bpy.types.Object, layer: bpy.types.LayerCollection) -> bool:
    """Whether it stands in a collection, from `layer` on, that is enabled in the viewport. (`Object.is_evaluated` does
    not tell: what a property of the scene holds is among the evaluated objects, but as it was made.)"""
    if layer.collection.hide_viewport:
        return False
    here = not layer.exclude and item in layer.collection.objects.values()
    return here or any(_is_enabled(item, child) for child in layer.children)


def ply(vertices: "NDArray[np.float32]", triangles: "NDArray[np.int32]") -> bytes:
    """The file: binary, little endian."""
    faces = np.empty(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, triangles
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return header.encode() + vertices.astype("<f4").tobytes() + faces.tobytes()
