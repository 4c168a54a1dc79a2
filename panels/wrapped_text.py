# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels that wrap: Blender's own cuts long lines."""

import textwrap
from typing import TYPE_CHECKING

import bpy

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

MOST_LINES = 12
_POINTS_PER_CHARACTER = 6.5  # of the interface font, at scale 1


def region_width(context: bpy.types.Context) -> float:
    """The width of the region at hand in points, as `draw_text` wants it."""
    return context.region.width / context.preferences.system.ui_scale if context.region else 240


def draw_text(layout: bpy.types.UILayout, text: str, width: float, icon: "IconItems" = "NONE") -> None:
    """A text in as many lines as it needs."""
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in textwrap.wrap(text, max(20, int(width / _POINTS_PER_CHARACTER)))[:MOST_LINES]:
        column.label(text=line, icon=icon)
        icon = "BLANK1" if icon != "NONE" else "NONE"
