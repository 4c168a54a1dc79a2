# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist sees."""

import bpy

from . import curve_icon, properties
from .asset_panel import UNRENDER_PT_asset
from .capture_panel import UNRENDER_PT_capture, UNRENDER_PT_render_capture
from .compare_panel import UNRENDER_PT_compare
from .job_panel import UNRENDER_PT_job
from .preferences import UNRENDER_AP_preferences
from .queue_panel import UNRENDER_PT_queue
from .sidebar import UNRENDER_PT_import, UNRENDER_PT_reconstruct

classes = (
    UNRENDER_AP_preferences,
    UNRENDER_PT_capture,
    UNRENDER_PT_render_capture,
    UNRENDER_PT_reconstruct,
    UNRENDER_PT_job,
    UNRENDER_PT_queue,
    UNRENDER_PT_compare,
    UNRENDER_PT_import,
    UNRENDER_PT_asset,
)


def register() -> None:
    properties.register()
    for cls in classes:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(classes):
        bpy.utils.unregister_class(cls)
    properties.unregister()
    curve_icon.unregister()
