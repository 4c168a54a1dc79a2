# SPDX-License-Identifier: GPL-3.0-or-later
"""Level-of-detail meshes of an asset: copies with ever fewer triangles, same material, same textures."""

from typing import TYPE_CHECKING

import bpy
from bpy.props import FloatProperty, IntProperty

from .asset_find import RESULT_KEY, active_asset, triangle_count
from .blender_context import scene_of
from .place_result import hide_until_asked

if TYPE_CHECKING:
    from .blender_context import OperatorResult

LODS_KEY = "unrender_lods_of"  # on the collection of the meshes: the object they were made from
FEWEST_TRIANGLES = 4


def lod_collection(asset: bpy.types.Object) -> bpy.types.Collection | None:
    """The collection of the asset's level-of-detail meshes, once there is one."""
    return next((found for found in bpy.data.collections if found.get(LODS_KEY) == asset), None)


def lods_of(asset: bpy.types.Object) -> list[tuple[str, int]]:
    """Name and triangle count of each level-of-detail mesh, the finest first."""
    collection = lod_collection(asset)
    found = []
    for item in collection.objects if collection is not None else ():
        if isinstance(item.data, bpy.types.Mesh):
            found.append((item.name, triangle_count(item.data)))
    return sorted(found, key=lambda lod: -lod[1])


def make_lods(context: bpy.types.Context, asset: bpy.types.Object, count: int, ratio: float) -> list[bpy.types.Object]:
    """`count` objects beside the asset, in a hidden collection; each has `ratio` of the triangles of the one before.
    They take the place of earlier ones. Fewer come where a mesh has no triangles left to spare."""
    scene = scene_of(context)
    collection = lod_collection(asset)
    if collection is None:
        collection = bpy.data.collections.new(f"{asset.name} LODs")
        collection[LODS_KEY] = asset
        home = asset.users_collection[0] if asset.users_collection else scene.collection
        home.children.link(collection)
    for old in list(collection.objects):
        mesh = old.data
        bpy.data.objects.remove(old)
        if isinstance(mesh, bpy.types.Mesh) and not mesh.users:
            bpy.data.meshes.remove(mesh)
    full = shown_triangles(context, asset)
    lods: list[bpy.types.Object] = []
    for level in range(1, count + 1):
        # Each from the full mesh, not from the level before: errors do not add up.
        lod = _collapse(context, asset, f"{asset.name}_LOD{level}", ratio**level)
        lods.append(lod)
        collection.objects.link(lod)
        if full * ratio ** (level + 1) < FEWEST_TRIANGLES:
            break
    hide_until_asked(scene, collection)
    return lods


def shown_triangles(context: bpy.types.Context, asset: bpy.types.Object) -> int:
    """How many triangles the asset has with its modifiers."""
    mesh = asset.evaluated_get(context.evaluated_depsgraph_get()).data
    assert isinstance(mesh, bpy.types.Mesh)
    return triangle_count(mesh)


def _collapse(context: bpy.types.Context, asset: bpy.types.Object, name: str, ratio: float) -> bpy.types.Object:
    """A copy of the asset as its modifiers show it, with edges collapsed where that changes the shape least.

    The Decimate modifier carries UVs, custom normals and attributes along. (Keeping it off the borders of charts, by a
    vertex group, was tried: colors gained little and the shape lost more.)
    """
    scene = scene_of(context)
    lod = asset.copy()
    lod.name = name
    lod.hide_viewport = False  # Blender evaluates no hidden object
    modifier = lod.modifiers.new(name, "DECIMATE")
    assert isinstance(modifier, bpy.types.DecimateModifier)
    modifier.ratio = ratio
    modifier.use_collapse_triangulate = True
    scene.collection.objects.link(lod)  # is never excluded, while the asset's own collection may be
    lod.select_set(False)
    depsgraph = context.evaluated_depsgraph_get()
    mesh = bpy.data.meshes.new_from_object(
        lod.evaluated_get(depsgraph), preserve_all_data_layers=True, depsgraph=depsgraph
    )
    mesh.name = name
    scene.collection.objects.unlink(lod)
    lod.modifiers.clear()
    lod.data = mesh
    if RESULT_KEY in lod:
        del lod[RESULT_KEY]  # or it would pass for the asset itself
    if lod.asset_data is not None:
        lod.asset_clear()
    return lod


class UNRENDER_OT_make_lods(bpy.types.Operator):
    """Make meshes with fewer triangles for things far away, with the same material, in a hidden collection beside the
    asset. Earlier ones are replaced. Takes a second for a usual asset, fifteen for each million triangles and level"""

    bl_idname = "unrender.make_lods"
    bl_label = "Make Levels of Detail"
    bl_options = {"REGISTER", "UNDO"}

    count: IntProperty(
        name="Levels",
        description="How many meshes to make, each with fewer triangles than the one before",
        default=3,
        min=1,
        max=8,
    )
    ratio: FloatProperty(
        name="Ratio",
        description="The part of its triangles that each level keeps of the level before",
        subtype="FACTOR",
        default=0.5,
        min=0.05,
        max=0.9,
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        asset = active_asset(context)
        if asset is None:
            cls.poll_message_set("Import a result first")
            return False
        if asset.mode != "OBJECT":
            cls.poll_message_set("Go to Object Mode first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        asset = active_asset(context)
        assert asset is not None
        full = shown_triangles(context, asset)
        if full * self.ratio < FEWEST_TRIANGLES:
            self.report({"ERROR"}, f"{asset.name} has too few triangles to leave any out.")
            return {"CANCELLED"}
        make_lods(context, asset, self.count, self.ratio)
        made = ", ".join(f"{name} {triangles:,}" for name, triangles in lods_of(asset))
        self.report({"INFO"}, f"Triangles: {made} (of {full:,})")
        return {"FINISHED"}
