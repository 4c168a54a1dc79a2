# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds an imported result again in the open file: by the marks that the import left on its collection."""

import bpy

from .blender_context import scene_of

RESULT_KEY = "unrender_result"  # on the collection and the mesh object: the folder it came from
# Only on the collection: whoever appends the object to another file shall not get the world with it.
WORLD_KEY = "unrender_world"


def results(scene: bpy.types.Scene) -> list[bpy.types.Collection]:
    """The collections of imported results, in the scene's order."""
    return [child for child in scene.collection.children_recursive if RESULT_KEY in child]


def active_result(context: bpy.types.Context) -> bpy.types.Collection | None:
    """The result that the active object belongs to; where it is something else, the last one of the scene."""
    found = results(scene_of(context))
    active = context.view_layer.objects.active if context.view_layer else None
    if active is not None:
        for collection in found:
            if collection.all_objects.get(active.name) == active:
                return collection
    return found[-1] if found else None


def asset_of(collection: bpy.types.Collection) -> bpy.types.Object | None:
    """The result's mesh object, unless the artist deleted it."""
    return next((item for item in collection.all_objects if _is_asset(item)), None)


def active_asset(context: bpy.types.Context) -> bpy.types.Object | None:
    """The active object if it is a result's mesh (or the artist's copy of one), else that of the result at hand."""
    active = context.view_layer.objects.active if context.view_layer else None
    if active is not None and _is_asset(active):
        return active
    collection = active_result(context)
    return asset_of(collection) if collection is not None else None


def cameras_of(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    """The result's cameras."""
    return [item for item in collection.all_objects if item.type == "CAMERA" and "unrender_view" in item]


def world_of(collection: bpy.types.Collection) -> bpy.types.World | None:
    """The world that came with the result, unless it was deleted."""
    world = collection.get(WORLD_KEY)
    return world if isinstance(world, bpy.types.World) else None


def triangle_count(mesh: bpy.types.Mesh) -> int:
    """How many triangles its faces make."""
    return len(mesh.loops) - 2 * len(mesh.polygons)


def _is_asset(item: bpy.types.Object) -> bool:
    return item.type == "MESH" and RESULT_KEY in item
