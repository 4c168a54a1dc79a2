# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences."""

import bpy
from bpy.props import StringProperty

from .. import __package__ as base_package
from ..operators import install_state
from .install import draw_backend
from .wrapped_text import region_width


def _look_again(self: bpy.types.AddonPreferences, context: bpy.types.Context) -> None:
    install_state.refresh()


class UNRENDER_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = base_package

    home: StringProperty(
        name="Data Folder",
        description="Where the backend's packages and caches go, several GB, and captures and results of files that "
        "were never saved. Empty: your user's data folder",
        subtype="DIR_PATH",
        update=_look_again,
    )
    jobs_folder: StringProperty(
        name="Jobs Folder",
        description="Where jobs go for which no output folder is chosen. Empty: 'unrender' beside the saved blend file",
        subtype="DIR_PATH",
    )
    wheels: StringProperty(
        name="Wheels Folder",
        description="Install from this folder of downloaded wheels, without a network. Empty: download",
        subtype="DIR_PATH",
    )
    torch_index: StringProperty(
        name="PyTorch Index",
        description="Address of the package index that PyTorch comes from. Empty: for CUDA or for the CPU, as this "
        "machine needs it",
    )
    python: StringProperty(
        name="Backend Python",
        description="A Python with the backend's packages. Empty: Blender's own, which sets up what it needs",
        subtype="FILE_PATH",
        update=_look_again,
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        draw_backend(layout, context, region_width(context))
        column = layout.column()
        column.use_property_split = True
        column.prop(self, "jobs_folder")
        column.prop(self, "home")
        column.prop(self, "wheels")
        column.prop(self, "torch_index")
        column.prop(self, "python")
