# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender's context always has while an operator or panel of ours runs, with the types to say so."""

from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import OperatorReturnItems

    OperatorResult = set[OperatorReturnItems]


def scene_of(context: bpy.types.Context) -> bpy.types.Scene:
    """The scene at hand. Only a Blender without any window or file has none."""
    assert context.scene is not None
    return context.scene


def settings_of(scene: bpy.types.Scene) -> Any:
    """Our properties in a scene (panels.properties.UNRENDER_PG_scene)."""
    ours: Any = scene  # what add-ons register is in no stub
    return ours.unrender


def windows() -> list[bpy.types.Window]:
    """The open windows; none in the background."""
    manager = bpy.context.window_manager
    return list(manager.windows) if manager is not None else []
