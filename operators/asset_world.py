# SPDX-License-Identifier: GPL-3.0-or-later
"""Which world lights the scene: the artist's own, or the one that came with a result."""

from typing import TYPE_CHECKING

import bpy

from .asset_find import active_result, world_of
from .blender_context import scene_of

if TYPE_CHECKING:
    from .blender_context import OperatorResult

BEFORE_KEY = "unrender_world_before"  # on the scene; being referred to, the artist's world is saved with the file


def use_world(scene: bpy.types.Scene, world: bpy.types.World) -> None:
    """Lights the scene with a result's world, and remembers the one it had."""
    if scene.world is not None and scene.world != world:
        scene[BEFORE_KEY] = scene.world
    scene.world = world


def world_before(scene: bpy.types.Scene) -> bpy.types.World | None:
    """The world that the scene had before it took a result's."""
    world = scene.get(BEFORE_KEY)
    return world if isinstance(world, bpy.types.World) else None


class UNRENDER_OT_use_world(bpy.types.Operator):
    """Light the scene with the world that was found with the result. Your own world stays in the file, and a second
    click brings it back"""

    bl_idname = "unrender.use_world"
    bl_label = "Use Its World"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        collection = active_result(context)
        if collection is None:
            cls.poll_message_set("Import a result first")
        elif world_of(collection) is None:
            cls.poll_message_set("This result has no world, or it was deleted. Import it again to get one")
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        scene = scene_of(context)
        collection = active_result(context)
        world = world_of(collection) if collection is not None else None
        if world is None:
            self.report({"ERROR"}, "This result has no world, or it was deleted. Import it again to get one.")
            return {"CANCELLED"}
        if scene.world != world:
            use_world(scene, world)
            return {"FINISHED"}
        before = world_before(scene)
        if before is None:
            self.report({"INFO"}, "The scene had no other world before. Choose one in the World properties.")
            return {"CANCELLED"}
        scene.world = before
        del scene[BEFORE_KEY]
        return {"FINISHED"}
