# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist can do, one file for each action."""

import bpy

from . import follow, install_backend, install_state, preflight, wipe_draw
from .asset_entry import UNRENDER_OT_mark_asset
from .asset_world import UNRENDER_OT_use_world
from .collect_capture import UNRENDER_OT_check_capture, UNRENDER_OT_collect
from .collect_open import UNRENDER_OT_open_capture
from .collect_region import UNRENDER_OT_add_region
from .import_result import UNRENDER_OT_import_result, draw_menu
from .lods import UNRENDER_OT_make_lods
from .match_view import UNRENDER_OT_match_view
from .queue_operators import UNRENDER_OT_queue_entry, UNRENDER_OT_start_queue
from .reconstruct import UNRENDER_OT_control, UNRENDER_OT_end_job, UNRENDER_OT_find_job, UNRENDER_OT_reconstruct
from .render_capture import UNRENDER_OT_render_capture
from .wipe import UNRENDER_OT_drag_wipe

classes = (
    UNRENDER_OT_import_result,
    UNRENDER_OT_use_world,
    UNRENDER_OT_match_view,
    UNRENDER_OT_make_lods,
    UNRENDER_OT_mark_asset,
    UNRENDER_OT_reconstruct,
    UNRENDER_OT_control,
    UNRENDER_OT_end_job,
    UNRENDER_OT_find_job,
    UNRENDER_OT_queue_entry,
    UNRENDER_OT_start_queue,
    UNRENDER_OT_drag_wipe,
    UNRENDER_OT_open_capture,
    UNRENDER_OT_check_capture,
    UNRENDER_OT_collect,
    UNRENDER_OT_add_region,
    UNRENDER_OT_render_capture,
    *install_backend.classes,
)


def register() -> None:
    for cls in classes:
        bpy.utils.register_class(cls)
    bpy.types.TOPBAR_MT_file_import.append(draw_menu)
    preflight.register()
    follow.register()
    install_state.register()
    wipe_draw.register()


def unregister() -> None:
    wipe_draw.unregister()
    install_state.unregister()
    follow.unregister()
    preflight.unregister()
    bpy.types.TOPBAR_MT_file_import.remove(draw_menu)
    for cls in reversed(classes):
        bpy.utils.unregister_class(cls)
