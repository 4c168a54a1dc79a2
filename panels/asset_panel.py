# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of an imported result: its light, its colors, its levels of detail, its place in the asset browser."""

import bpy

from ..operators import asset_find, asset_world, lods, match_view
from ..operators.asset_entry import UNRENDER_OT_mark_asset
from ..operators.blender_context import scene_of


class UNRENDER_PT_asset(bpy.types.Panel):
    bl_idname = "UNRENDER_PT_asset"
    bl_label = "Imported Asset"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Unrender"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return asset_find.active_result(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        assert layout is not None
        scene = scene_of(context)
        collection = asset_find.active_result(context)
        if collection is None:
            return
        layout.label(text=collection.name, icon="OUTLINER_COLLECTION")
        column = layout.column(align=True)
        draw_world(column, scene, collection)
        column.operator(
            match_view.UNRENDER_OT_match_view.bl_idname, icon="IMAGE_REFERENCE", depress=match_view.matches(scene)
        )
        asset = asset_find.active_asset(context)
        if asset is not None and isinstance(asset.data, bpy.types.Mesh):
            draw_mesh(layout, asset, asset.data)


def draw_world(layout: bpy.types.UILayout, scene: bpy.types.Scene, collection: bpy.types.Collection) -> None:
    """One button: to the result's world, or back."""
    world = asset_find.world_of(collection)
    in_use = world is not None and scene.world == world
    before = asset_world.world_before(scene) if in_use else None
    text = f'Back to "{before.name}"' if before is not None else "Its World Is in Use" if in_use else "Use Its World"
    row = layout.row(align=True)
    row.enabled = not in_use or before is not None
    row.operator(asset_world.UNRENDER_OT_use_world.bl_idname, text=text, icon="WORLD")


def draw_mesh(layout: bpy.types.UILayout, asset: bpy.types.Object, mesh: bpy.types.Mesh) -> None:
    """Triangle counts, and what can be made of the mesh."""
    column = layout.column(align=True)
    levels = [(asset.name, asset_find.triangle_count(mesh)), *lods.lods_of(asset)]
    for name, triangles in levels:
        column.label(text=f"{name}: {triangles:,} triangles", icon="MESH_DATA")
    column.operator(lods.UNRENDER_OT_make_lods.bl_idname, icon="MOD_DECIM")
    known = asset.asset_data is not None
    text = "Renew Asset Entry" if known else UNRENDER_OT_mark_asset.bl_label
    layout.operator(UNRENDER_OT_mark_asset.bl_idname, text=text, icon="ASSET_MANAGER")
