# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sidebar remembers in each scene."""

from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

PRESET_ITEMS = (
    ("draft", "Draft", "A few minutes even without a GPU: shape and colors to judge a capture by"),
    ("standard", "Standard", "Some minutes on a GPU, an hour or more without: a good asset"),
    ("high", "High", "Several times the cost of Standard: finer shape, larger textures"),
)


class UNRENDER_PG_scene(bpy.types.PropertyGroup):
    """Settings of the next reconstruction, and where the last one is."""

    capture: StringProperty(
        name="Capture",
        description="Folder of the photographs, with the cameras in capture.json or transforms.json",
        subtype="DIR_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    preset: EnumProperty(name="Preset", description="How much time to spend", items=PRESET_ITEMS, default="standard")
    output: StringProperty(
        name="Output",
        description="Folder of the job and its result. Empty: a new one, where the preferences say or beside the file",
        subtype="DIR_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    import_when_finished: BoolProperty(
        name="Import When Finished",
        description="Import the result into this scene as soon as it is there, as one undo step",
        default=True,
    )
    job_folder: StringProperty(
        name="Job",
        description="The job folder that this scene shows; it is found again when the file is opened",
        subtype="DIR_PATH",
        options={"HIDDEN"},
    )


def register() -> None:
    bpy.utils.register_class(UNRENDER_PG_scene)
    scene: Any = bpy.types.Scene  # a new attribute, which no stub can know
    props: Any = bpy.props  # whose functions return nothing, say the stubs
    scene.unrender = props.PointerProperty(type=UNRENDER_PG_scene)


def unregister() -> None:
    scene: Any = bpy.types.Scene
    del scene.unrender
    bpy.utils.unregister_class(UNRENDER_PG_scene)
