# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers about collecting and rendering captures."""

from math import radians

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from ..operators import preflight

SOURCE_ITEMS = (
    (
        "SCENE",
        "Scene Cameras",
        "Cameras with background images, image sequences or movie clips, as importers and camera solves leave them",
    ),
    (
        "FOLDER",
        "Image Folder",
        "The selected cameras, and images in a folder that are named like them",
    ),
)
LAYOUT_ITEMS = (
    ("DOME", "Dome", "Cameras all around and above, evenly spread: for reconstructing"),
    ("TURNTABLE", "Turntable", "Cameras on one ring, as if the object turned"),
)
ENGINE_ITEMS = (
    ("CYCLES", "Cycles", "Traces light: true shadows and reflections. Seconds a view"),
    ("EEVEE", "EEVEE", "Fast, needs a GPU. Shadows and reflections are approximate"),
)


def _show(settings: bpy.types.PropertyGroup, context: bpy.types.Context) -> None:
    """Loads the thumbnail that the arrows came to; drawing may not."""
    scene = settings.id_data
    if isinstance(scene, bpy.types.Scene):
        preflight.load_shown(scene)


class UNRENDER_PG_collect(bpy.types.PropertyGroup):
    """How a capture is collected from the scene."""

    source: EnumProperty(name="From", description="Where the photographs are", items=SOURCE_ITEMS, default="SCENE")
    selected_only: BoolProperty(
        name="Selected Only", description="Leave out cameras that are not selected", default=False
    )
    frame_step: IntProperty(
        name="Every Nth Frame",
        description="Of sequences and movie clips take every Nth frame; some hundred views are plenty",
        default=1,
        min=1,
        soft_max=50,
    )
    images: StringProperty(
        name="Images",
        description="Folder of the photographs. Each is named like its camera; folders in it count too",
        subtype="DIR_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    masks: StringProperty(
        name="Masks",
        description="Folder of masks named like the photographs, white on the object. Empty: alpha channels",
        subtype="DIR_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    region: PointerProperty(
        name="Region",
        description="The box of this object is what is reconstructed. Empty: all that the masks show",
        type=bpy.types.Object,
    )
    holdout: IntProperty(
        name="Hold Out Every",
        description="Keep every Nth photograph from training, to measure the quality by. 0: none",
        default=0,
        min=0,
        soft_max=20,
    )
    folder: StringProperty(
        name="Save To",
        description="Folder of the capture. Empty: a new one, beside the blend file where it was saved",
        subtype="DIR_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    written: StringProperty(
        name="Written",
        description="The capture that this scene wrote last, which it may replace",
        subtype="DIR_PATH",
        options={"HIDDEN"},
    )
    placed: StringProperty(
        name="Placed",
        description="The capture that the scene's cameras and region show, empty where it is none",
        subtype="DIR_PATH",
        options={"HIDDEN"},
    )
    turned: BoolProperty(
        name="Turned",
        description="Whether the placed capture was set upright: then the scene's frame is not that of its file",
        options={"HIDDEN"},
    )
    shown: IntProperty(
        name="View", description="Which view's photograph and mask are shown", default=0, min=0, update=_show
    )


class UNRENDER_PG_render_capture(bpy.types.PropertyGroup):
    """How a capture is rendered from the scene's own objects."""

    layout: EnumProperty(name="Cameras", description="Where the cameras stand", items=LAYOUT_ITEMS, default="DOME")
    views: IntProperty(
        name="Views",
        description="How many pictures to render, one after the other; the time grows with them",
        default=60,
        min=3,
        soft_max=200,
        max=2000,
    )
    elevation: FloatProperty(
        name="Elevation",
        description="How high the ring stands above the horizon",
        subtype="ANGLE",
        default=radians(20.0),
        min=radians(-89.0),
        max=radians(89.0),
    )
    lowest: FloatProperty(
        name="Lowest",
        description="How low the dome's cameras go; below the horizon they see the underside",
        subtype="ANGLE",
        default=radians(-20.0),
        min=radians(-89.0),
        max=radians(88.0),
    )
    highest: FloatProperty(
        name="Highest",
        description="How high the dome's cameras go; 90 degrees is straight above",
        subtype="ANGLE",
        default=radians(80.0),
        min=radians(-88.0),
        max=radians(89.0),
    )
    size: IntProperty(
        name="Resolution",
        description="Pixels of each picture's sides; twice as many take four times as long",
        subtype="PIXEL",
        default=512,
        min=16,
        max=8192,
    )
    engine: EnumProperty(
        name="Engine",
        description="What renders the pictures, and how true their light is",
        items=ENGINE_ITEMS,
        default="CYCLES",
    )
    samples: IntProperty(
        name="Samples",
        description="Samples of each pixel. Few are enough: the reconstruction averages over the views",
        default=32,
        min=1,
        soft_max=512,
    )
    holdout: IntProperty(
        name="Hold Out Every",
        description="Keep every Nth picture from training, to measure the quality by. 0: none",
        default=8,
        min=0,
        soft_max=20,
    )


classes = (UNRENDER_PG_collect, UNRENDER_PG_render_capture)
