# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the running job, or of the last one."""

from typing import TYPE_CHECKING

import bpy

from ..operators import follow, previews, queue_jobs
from ..operators.blender_context import scene_of, settings_of
from ..operators.import_result import UNRENDER_OT_import_result
from ..operators.job_text import time_left
from ..operators.jobs import JobWatch
from ..operators.reconstruct import (
    UNRENDER_OT_control,
    UNRENDER_OT_end_job,
    UNRENDER_OT_find_job,
    UNRENDER_OT_reconstruct,
)
from .curve_icon import curve_icon
from .wrapped_text import draw_text, region_width

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
CURVE_SCALE = 5.0  # widget heights
SILENCE_SECONDS = 120.0  # without a word, after which one wonders


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
        draw_job(layout, watch, region_width(context))
        if watch.active or (watch.witnessed and watch.preview is not None and not previews.is_imported(watch)):
            layout.prop(settings_of(scene_of(context)), "show_preview")


def draw_job(layout: bpy.types.UILayout, watch: JobWatch, width: float) -> None:
    """State, progress and buttons of one job. `width`: of the region, in points."""
    column = layout.column(align=True)
    column.label(text=watch.folder.name, icon="FILE_FOLDER")
    if watch.active:
        column.progress(factor=watch.fraction, type="BAR", text=progress_text(watch))
        draw_figures(layout, watch)
        draw_buttons(layout, watch)
    else:
        column.label(text=STATUS_TEXT[watch.status], icon=STATUS_ICON.get(watch.status, "INFO"))
    for text in (watch.message, watch.said):
        if text:
            draw_text(layout, text, width)
    if watch.silent_seconds > SILENCE_SECONDS:
        draw_text(layout, f"It has said nothing for {time_left(watch.silent_seconds)}.", width, icon="QUESTION")
    for warning in watch.warnings[-3:]:
        draw_text(layout, warning, width, icon="ERROR")
    if watch.has_result:
        row = layout.row()
        row.operator_context = "EXEC_DEFAULT"  # at once, without the file browser
        text = "Import It Again" if previews.is_imported(watch) else "Import Its Result"
        button = row.operator(UNRENDER_OT_import_result.bl_idname, text=text, icon="IMPORT")
        button.directory = str(watch.result)
    if not watch.active and queue_jobs.holds(watch.folder):
        layout.label(text="Waits in the queue", icon="TIME")
    elif watch.can_resume and watch.status != "finished":
        row = layout.row()
        row.operator(UNRENDER_OT_reconstruct.bl_idname, text="Continue", icon="FILE_REFRESH").resume = True


def draw_figures(layout: bpy.types.UILayout, watch: JobWatch) -> None:
    """The curve, and beside it what there is to tell in numbers."""
    row = layout.row()
    if icon := curve_icon(watch.folder, watch.curve.values):
        row.template_icon(icon_value=icon, scale=CURVE_SCALE)
    column = row.column(align=True)
    if watch.psnr is not None:
        column.label(text=f"{watch.psnr:.1f} dB")
    if watch.seconds_left is not None and watch.status == "running":
        column.label(text=f"{time_left(watch.seconds_left)} left")
    if watch.memory is not None:
        column.label(text=f"{watch.memory / 1e9:.1f} GB")


def draw_buttons(layout: bpy.types.UILayout, watch: JobWatch) -> None:
    """Pause or resume, finish, stop; each waits for its answer. A job that cannot answer can be ended."""
    if watch.deaf:
        if watch.asked == "stop":
            layout.label(text="It does not answer", icon="ERROR")
        layout.operator(UNRENDER_OT_end_job.bl_idname, icon="CANCEL").folder = str(watch.folder)
        return
    column = layout.column(align=True)
    column.enabled = watch.status in ("running", "paused") and watch.asked != "stop"
    row = column.row(align=True)
    paused = watch.status == "paused"
    shown: tuple[tuple[bpy.types.UILayout, Request, str, IconItems], ...] = (
        (row, "resume", "Resume", "PLAY") if paused else (row, "pause", "Pause", "PAUSE"),
        (row, "stop", "Stop", "X"),
        (column, "finish", "Finish Now", "CHECKMARK"),
    )
    for place, request, text, icon in shown:
        button = place.operator(UNRENDER_OT_control.bl_idname, text=text, icon=icon)
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
