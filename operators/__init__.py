# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist can do, one file for each action."""

import bpy

from . import follow
from .import_result import UNRENDER_OT_import_result, draw_menu
from .reconstruct import UNRENDER_OT_control, UNRENDER_OT_find_job, UNRENDER_OT_reconstruct

classes = (UNRENDER_OT_import_result, UNRENDER_OT_reconstruct, UNRENDER_OT_control, UNRENDER_OT_find_job)


def register() -> None:
    for cls in classes:
        bpy.utils.register_class(cls)
    bpy.types.TOPBAR_MT_file_import.append(draw_menu)
    follow.register()


def unregister() -> None:
    follow.unregister()
    bpy.types.TOPBAR_MT_file_import.remove(draw_menu)
    for cls in reversed(classes):
        bpy.utils.unregister_class(cls)
