# SPDX-License-Identifier: GPL-3.0-or-later
"""The 'Unrender' tab of the 3D viewport's sidebar."""

import textwrap
from typing import TYPE_CHECKING

import bpy

from ..operators import follow, jobs
from ..operators.blender_context import scene_of, settings_of
from ..operators.import_result import UNRENDER_OT_import_result
from ..operators.jobs import JobWatch
from ..operators.reconstruct import UNRENDER_OT_control, UNRENDER_OT_find_job, UNRENDER_OT_reconstruct

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

    from ..backend.job import Request

STATUS_TEXT = {
    "none": "No events yet",
    "starting": "Starting",
    "running": "Running",
    "paused": "Paused",
    "finished": "Finished",
    "failed": "Failed",
    "stopped": "Stopped",
    "died": "Ended unexpectedly",
}
STATUS_ICON: dict[str, "IconItems"] = {"finished": "CHECKMARK", "failed": "ERROR", "died": "ERROR"}
ASKED_TEXT = {"pause": "Pausing…", "resume": "Resuming…", "finish": "Finishing…", "stop": "Stopping…"}
_POINTS_PER_CHARACTER = 6.5  # of the interface font, at scale 1


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
        layout.prop(settings, "output")
        layout.prop(settings, "import_when_finished")
        row = layout.row()
        row.scale_y = 1.5
        row.operator(UNRENDER_OT_reconstruct.bl_idname, icon="MESH_MONKEY").resume = False


class UNRENDER_PT_job(bpy.types.Panel):
    bl_idname = "UNRENDER_PT_job"
    bl_label = "Job"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Unrender"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        assert layout is not None
        watch = follow.job_of(context.scene)
        if watch is None:
            layout.label(text="No reconstruction yet", icon="INFO")
            layout.operator(UNRENDER_OT_find_job.bl_idname, icon="VIEWZOOM")
            return
        draw_job(layout, watch, context.region.width / context.preferences.system.ui_scale if context.region else 240)


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


def draw_job(layout: bpy.types.UILayout, watch: JobWatch, width: float) -> None:
    """State, progress and buttons of one job. `width`: of the region, in points."""
    column = layout.column(align=True)
    column.label(text=watch.folder.name, icon="FILE_FOLDER")
    if watch.active:
        column.progress(factor=watch.fraction, type="BAR", text=progress_text(watch))
        figures = column.row()
        if watch.psnr is not None:
            figures.label(text=f"{watch.psnr:.1f} dB")
        if watch.seconds_left is not None and watch.status == "running":
            figures.label(text=f"{jobs.time_left(watch.seconds_left)} left")
        draw_buttons(layout, watch)
    else:
        column.label(text=STATUS_TEXT[watch.status], icon=STATUS_ICON.get(watch.status, "INFO"))
    if watch.message:
        draw_text(layout, watch.message, width)
    for warning in watch.warnings[-3:]:
        draw_text(layout, warning, width, icon="ERROR")
    if watch.status == "finished":
        row = layout.row()
        row.operator_context = "EXEC_DEFAULT"  # at once, without the file browser
        button = row.operator(UNRENDER_OT_import_result.bl_idname, text="Import Its Result", icon="IMPORT")
        button.directory = str(watch.result)
    elif watch.can_resume:
        row = layout.row()
        row.operator(UNRENDER_OT_reconstruct.bl_idname, text="Continue", icon="FILE_REFRESH").resume = True


def draw_buttons(layout: bpy.types.UILayout, watch: JobWatch) -> None:
    """Pause or resume, finish, stop; each waits for its answer."""
    row = layout.row(align=True)
    row.enabled = watch.status in ("running", "paused") and watch.asked is None
    paused = watch.status == "paused"
    shown: tuple[tuple[Request, str, IconItems], ...] = (
        ("resume", "Resume", "PLAY") if paused else ("pause", "Pause", "PAUSE"),
        ("finish", "Finish Now", "CHECKMARK"),
        ("stop", "Stop", "X"),
    )
    for request, text, icon in shown:
        button = row.operator(UNRENDER_OT_control.bl_idname, text=text, icon=icon)
        button.request = request
        button.folder = str(watch.folder)


def progress_text(watch: JobWatch) -> str:
    """What stands in the bar: what was asked and not yet answered, else the stage and how far it is."""
    if watch.asked is not None:
        return ASKED_TEXT[watch.asked]
    if watch.status == "starting" or not watch.stage:
        return STATUS_TEXT[watch.status]
    paused = f"{STATUS_TEXT['paused']} · " if watch.status == "paused" else ""
    return f"{paused}{watch.stage} {watch.fraction:.0%}"


def draw_text(layout: bpy.types.UILayout, text: str, width: float, icon: "IconItems" = "NONE") -> None:
    """A label that wraps: Blender's own cuts long lines."""
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in textwrap.wrap(text, max(20, int(width / _POINTS_PER_CHARACTER)))[:12]:
        column.label(text=line, icon=icon)
        icon = "BLANK1" if icon != "NONE" else "NONE"
