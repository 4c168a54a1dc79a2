# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel that compares what a camera sees with its photograph."""

import bpy

from ..operators.blender_context import scene_of, settings_of
from ..operators.wipe import UNRENDER_OT_drag_wipe, why_no_wipe
from .wrapped_text import draw_text, region_width


class UNRENDER_PT_compare(bpy.types.Panel):
    bl_idname = "UNRENDER_PT_compare"
    bl_label = "Compare"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Unrender"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        assert layout is not None
        settings = settings_of(scene_of(context))
        layout.prop(settings, "wipe", toggle=True, icon="IMAGE_REFERENCE")
        row = layout.row(align=True)
        row.enabled = settings.wipe
        row.prop(settings, "wipe_position", slider=True)
        row.operator(UNRENDER_OT_drag_wipe.bl_idname, text="", icon="ARROW_LEFTRIGHT")
        if settings.wipe and (reason := why_no_wipe(context)):
            draw_text(layout, reason, region_width(context), icon="INFO")
