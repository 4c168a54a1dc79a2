# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels that wrap: Blender's own cuts long lines."""

import textwrap
from typing import TYPE_CHECKING

import bpy

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

MOST_LINES = 12
_POINTS_PER_CHARACTER = 6.5  # of the interface font, at scale 1
_MARGINS, _ICON = 50.0, 25.0  # points that a panel's borders and the sidebar's tabs take from a line, and an icon


def region_width(context: bpy.types.Context) -> float:
    """The width of the region at hand in points, as `draw_text` wants it."""
    return context.region.width / context.preferences.system.ui_scale if context.region else 240


def draw_text(layout: bpy.types.UILayout, text: str, width: float, icon: "IconItems" = "NONE") -> None:
    """A text in as many lines as it needs."""
    column = layout.column(align=True)
    column.scale_y = 0.8
    room = width - _MARGINS - (_ICON if icon != "NONE" else 0.0)
    for line in wrapped(text, max(20, int(room / _POINTS_PER_CHARACTER)))[:MOST_LINES]:
        column.label(text=line, icon=icon)
        icon = "BLANK1" if icon != "NONE" else "NONE"


def wrapped(text: str, most: int) -> list[str]:
    """The text in lines of at most so many characters. Paths, which are longer, are broken after a separator."""
    lines: list[str] = []
    for line in textwrap.wrap(text, most, break_long_words=False):
        while len(line) > most:
            place = max(line.rfind("/", 0, most), line.rfind("\\", 0, most)) + 1 or most
            lines.append(line[:place])
            line = line[place:]
        lines.append(line)
    return lines
