# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences."""

import bpy
from bpy.props import StringProperty

from .. import __package__ as base_package


class UNRENDER_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = base_package

    home: StringProperty(
        name="Data Folder",
        description="Where the backend's packages and caches go, several GB. Empty: your user's data folder",
        subtype="DIR_PATH",
    )
    jobs_folder: StringProperty(
        name="Jobs Folder",
        description="Where jobs go for which no output folder is chosen. Empty: 'unrender' beside the saved blend file",
        subtype="DIR_PATH",
    )
    python: StringProperty(
        name="Backend Python",
        description="A Python with the backend's packages. Empty: Blender's own, which sets up what it needs",
        subtype="FILE_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "home")
        layout.prop(self, "jobs_folder")
        layout.prop(self, "python")
