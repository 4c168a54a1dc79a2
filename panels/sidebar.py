# SPDX-License-Identifier: GPL-3.0-or-later
"""The 'Unrender' tab of the 3D viewport's sidebar: what starts a reconstruction, and what brings one in."""

import bpy

from ..operators.blender_context import scene_of, settings_of
from ..operators.import_result import UNRENDER_OT_import_result
from ..operators.reconstruct import UNRENDER_OT_reconstruct


class UNRENDER_PT_reconstruct(bpy.types.Panel):
    bl_idname = "UNRENDER_PT_reconstruct"
    bl_label = "Reconstruct"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Unrender"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = settings_of(scene_of(context))
        layout.prop(settings, "capture")
        layout.prop(settings, "preset")
        layout.prop(settings, "start_mesh")
        layout.prop(settings, "output")
        column = layout.column()
        column.use_property_split = False  # else its name is cut off
        column.prop(settings, "import_when_finished")
        row = layout.row()
        row.scale_y = 1.5
        row.operator(UNRENDER_OT_reconstruct.bl_idname, icon="MESH_MONKEY").resume = False


class UNRENDER_PT_import(bpy.types.Panel):
    bl_idname = "UNRENDER_PT_import"
    bl_label = "Import"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Unrender"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        # A button that opens the file browser: invoke, which is a panel's default.
        layout.operator(UNRENDER_OT_import_result.bl_idname, text="Import Result…", icon="IMPORT")
