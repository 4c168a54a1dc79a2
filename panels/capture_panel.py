# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a capture comes from: opened, collected from the scene, or rendered; and what was found in it."""

from typing import TYPE_CHECKING

import bpy

from ..operators import preflight
from ..operators.blender_context import scene_of, settings_of
from ..operators.collect_capture import UNRENDER_OT_check_capture, UNRENDER_OT_collect
from ..operators.collect_open import UNRENDER_OT_open_capture
from ..operators.collect_region import UNRENDER_OT_add_region
from ..operators.preflight import Report
from ..operators.render_capture import UNRENDER_OT_render_capture
from .wrapped_text import draw_text, region_width

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

LEVEL_ICON: dict[str, "IconItems"] = {"ERROR": "CANCEL", "WARNING": "ERROR", "INFO": "DOT"}
THUMBNAIL_SCALE = 8.0
BOX_MARGIN = 15.0  # points that the box takes from a line
MOST_LINES = 20


class UNRENDER_PT_capture(bpy.types.Panel):
    bl_idname = "UNRENDER_PT_capture"
    bl_label = "Capture"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Unrender"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        assert layout is not None
        layout.use_property_split = True
        layout.use_property_decorate = False
        scene = scene_of(context)
        settings = settings_of(scene).collect
        layout.operator(UNRENDER_OT_open_capture.bl_idname, text="Open Capture…", icon="FILE_FOLDER")
        layout.prop(settings, "source")
        if settings.source == "FOLDER":
            layout.prop(settings, "images")
        else:
            layout.prop(settings, "selected_only")
            layout.prop(settings, "frame_step")
        layout.prop(settings, "masks")
        row = layout.row(align=True)
        row.prop(settings, "region")
        row.operator(UNRENDER_OT_add_region.bl_idname, text="", icon="ADD")
        layout.prop(settings, "holdout")
        layout.prop(settings, "folder")
        row = layout.row(align=True)
        row.scale_y = 1.3
        row.operator(UNRENDER_OT_check_capture.bl_idname, icon="VIEWZOOM")
        row.operator(UNRENDER_OT_collect.bl_idname, icon="OUTLINER_OB_CAMERA")
        report = preflight.report_of(scene)
        if report is not None:
            draw_report(layout, scene, report, region_width(context))


class UNRENDER_PT_render_capture(bpy.types.Panel):
    bl_idname = "UNRENDER_PT_render_capture"
    bl_label = "Render a Capture"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Unrender"
    bl_parent_id = "UNRENDER_PT_capture"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        assert layout is not None
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = settings_of(scene_of(context)).render_capture
        layout.prop(settings, "layout")
        layout.prop(settings, "views")
        if settings.layout == "DOME":
            column = layout.column(align=True)
            column.prop(settings, "lowest")
            column.prop(settings, "highest")
        else:
            layout.prop(settings, "elevation")
        layout.prop(settings, "size")
        layout.prop(settings, "engine")
        layout.prop(settings, "samples")
        layout.prop(settings, "holdout")
        layout.operator(UNRENDER_OT_render_capture.bl_idname, icon="RENDER_STILL")


def draw_report(layout: bpy.types.UILayout, scene: bpy.types.Scene, report: Report, width: float) -> None:
    """The preflight list, and a view with its mask over the photograph."""
    box = layout.box()
    width -= BOX_MARGIN
    draw_text(box, report.summary, width, icon="CHECKMARK" if report.collected else "VIEWZOOM")
    if report.collected and preflight.region_differs(scene, report.bounds):
        draw_text(box, "The region is not the capture's: Reconstruct collects first.", width, icon="INFO")
    for line in report.lines[:MOST_LINES]:
        draw_text(box, line.text, width, icon=LEVEL_ICON[line.level])
    if len(report.lines) > MOST_LINES:
        box.label(text=f"and {len(report.lines) - MOST_LINES} more lines", icon="BLANK1")
    picture = preflight.shown_picture(scene, report)
    if picture is None:
        return
    box.prop(settings_of(scene).collect, "shown")
    icon = preflight.icon_of(picture)
    if icon:
        box.template_icon(icon_value=icon, scale=THUMBNAIL_SCALE)
    box.label(text=picture.name if picture.photo is not None else f"{picture.name}: written when collecting")
