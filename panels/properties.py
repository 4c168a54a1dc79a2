# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sidebar remembers in each scene."""

from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    PointerProperty,
    StringProperty,
)

from ..operators.blender_context import settings_of
from ..operators.start_mesh import is_mesh_of
from ..operators.wipe import wipe_switched
from . import capture_properties
from .capture_properties import UNRENDER_PG_collect, UNRENDER_PG_render_capture

PRESET_ITEMS = (
    ("draft", "Draft", "A few minutes even without a GPU: shape and colors to judge a capture by"),
    ("standard", "Standard", "Some minutes on a GPU, an hour or more without: a good asset"),
    ("high", "High", "Several times the cost of Standard: finer shape, larger textures"),
)


def is_mesh_of_scene(scene_settings: bpy.types.PropertyGroup, item: bpy.types.Object) -> bool:
    """Whether a reconstruction could start from it."""
    scene = scene_settings.id_data
    return isinstance(scene, bpy.types.Scene) and is_mesh_of(scene, item)


class UNRENDER_PG_job(bpy.types.PropertyGroup):
    """A job of a scene."""

    folder: StringProperty(name="Folder", description="The job folder", subtype="DIR_PATH", options={"HIDDEN"})


class UNRENDER_PG_scene(bpy.types.PropertyGroup):
    """Settings of the next reconstruction, and where the last one is."""

    capture: StringProperty(
        name="Capture",
        description="Folder of the photographs, with the cameras in capture.json, transforms.json or a COLMAP model",
        subtype="DIR_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    collect: PointerProperty(
        name="Collect", description="How a capture is collected from the scene", type=UNRENDER_PG_collect
    )
    render_capture: PointerProperty(
        name="Render Capture", description="How a capture is rendered", type=UNRENDER_PG_render_capture
    )
    preset: EnumProperty(
        name="Preset",
        description="How much time to spend: finer shape and larger textures take longer",
        items=PRESET_ITEMS,
        default="standard",
    )
    start_mesh: PointerProperty(
        name="Start From",
        description=(
            "Refine this mesh by the photographs (a sculpt, a scan, a generated model) instead of starting from the "
            "masks. It has to stand where the cameras see the object; what sticks out of the masks is cut off"
        ),
        type=bpy.types.Object,
        poll=is_mesh_of_scene,
    )
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
    jobs: CollectionProperty(
        name="Jobs", description="The job folders of this scene from which a result is expected", type=UNRENDER_PG_job
    )
    show_preview: BoolProperty(
        name="Show Growing Mesh",
        description=(
            "Show the mesh of the running job with its colors. It is neither saved nor rendered, and goes when the "
            "result comes. Solid viewports show attribute colors meanwhile"
        ),
        default=True,
    )
    wipe: BoolProperty(
        name="Compare with Photograph",
        description=(
            "Looking through a camera with a photograph: show the photograph left of a line, and right of it the "
            "scene without the photograph behind it"
        ),
        default=False,
        update=wipe_switched,
    )
    wipe_position: FloatProperty(
        name="Photograph",
        description="How much of the camera's frame the photograph covers, from the left",
        subtype="FACTOR",
        default=0.5,
        min=0.0,
        max=1.0,
    )


def register() -> None:
    bpy.utils.register_class(UNRENDER_PG_job)
    for cls in capture_properties.classes:
        bpy.utils.register_class(cls)
    bpy.utils.register_class(UNRENDER_PG_scene)
    scene: Any = bpy.types.Scene  # a new attribute, which no stub can know
    props: Any = bpy.props  # whose functions return nothing, say the stubs
    scene.unrender = props.PointerProperty(type=UNRENDER_PG_scene)


def unregister() -> None:
    scene: Any = bpy.types.Scene
    for found in bpy.data.scenes:
        if settings_of(found).wipe:
            settings_of(found).wipe = False  # the photographs that it hides come back
    del scene.unrender
    bpy.utils.unregister_class(UNRENDER_PG_scene)
    for cls in reversed(capture_properties.classes):
        bpy.utils.unregister_class(cls)
    bpy.utils.unregister_class(UNRENDER_PG_job)
