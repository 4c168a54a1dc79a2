# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist can do with the queue."""

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import EnumProperty, StringProperty

from ..backend.errors import UserError
from . import follow, queue_jobs, scene_jobs
from .start_mesh import withdraw_start_mesh

if TYPE_CHECKING:
    from .blender_context import OperatorResult

ACTION_ITEMS = (
    ("up", "Earlier", "Let it change places with the one before it"),
    ("down", "Later", "Let it change places with the one after it"),
    ("remove", "Remove", "Take it out of the queue. Nothing of it was made yet, so nothing is lost"),
    ("start", "Start Now", "Start it at once, beside what is running. They share processor and GPU, memory too"),
)


class UNRENDER_OT_queue_entry(bpy.types.Operator):
    """Change the queue of reconstructions: what comes first, what starts now, and what not at all. Costs nothing"""

    bl_idname = "unrender.queue_entry"
    bl_label = "Change the Queue"
    bl_options = {"INTERNAL"}

    action: EnumProperty(name="Action", description="What becomes of the waiting reconstruction", items=ACTION_ITEMS)
    entry: StringProperty(name="Entry", description="Which one", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        action = getattr(properties, "action", "")
        return next((item[2] for item in ACTION_ITEMS if item[0] == action), cls.__doc__ or "")

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        entry = queue_jobs.find(self.entry)
        if entry is None:
            queue_jobs.refresh()
            self.report({"ERROR"}, "It is not in the queue any more: it was started or removed meanwhile.")
            return {"CANCELLED"}
        try:
            if self.action == "start":
                follow.start_waiting(entry)
            elif self.action == "remove":
                queue_jobs.remove(entry)
                scene_jobs.withdraw(Path(entry.folder))
                withdraw_start_mesh(Path(entry.folder))
            else:
                queue_jobs.move(entry, up=self.action == "up")
        except (UserError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNRENDER_OT_start_queue(bpy.types.Operator):
    """Work through the queue that an earlier Blender left, one reconstruction after the other"""

    bl_idname = "unrender.start_queue"
    bl_label = "Start Queue"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not queue_jobs.is_held():
            cls.poll_message_set("The queue goes on by itself.")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        queue_jobs.hold(False)
        follow.wake()
        return {"FINISHED"}
