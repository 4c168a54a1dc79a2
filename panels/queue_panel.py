# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the reconstructions that wait for their turn; it is not there while none do."""

from pathlib import Path

import bpy

from ..operators import queue_jobs
from ..operators.queue_operators import UNRENDER_OT_queue_entry, UNRENDER_OT_start_queue

ICONS = (("up", "TRIA_UP"), ("down", "TRIA_DOWN"), ("start", "PLAY"), ("remove", "X"))


class UNRENDER_PT_queue(bpy.types.Panel):
    bl_idname = "UNRENDER_PT_queue"
    bl_label = "Queue"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Unrender"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(queue_jobs.WAITING)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        assert layout is not None
        if queue_jobs.is_held():
            layout.label(text="Left by an earlier Blender", icon="INFO")
            layout.operator(UNRENDER_OT_start_queue.bl_idname, icon="PLAY")
        column = layout.column(align=True)
        for number, entry in enumerate(queue_jobs.WAITING, 1):
            row = column.row(align=True)
            row.label(text=f"{number}  {Path(entry.folder).name}")
            for action, icon in ICONS:
                button = row.operator(UNRENDER_OT_queue_entry.bl_idname, text="", icon=icon)
                button.action = action
                button.entry = entry.name
