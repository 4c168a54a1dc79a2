# SPDX-License-Identifier: GPL-3.0-or-later
"""The world that lit the photographs, as a World of its own."""

from collections.abc import Iterable
from typing import Any

import bpy

from . import compat

_DEFAULT_GREY = 0.05087609  # the background of Blender's start-up file


def build_world(name: str, image: bpy.types.Image) -> bpy.types.World:
    """An Environment Texture with no mapping: the lat-long convention of the result is Blender's own (DESIGN.md 4)."""
    world = bpy.data.worlds.new(name)
    tree = compat.nodes_of(world)
    texture = compat.add_node(tree, "ShaderNodeTexEnvironment", -400, 300)
    texture.image = image
    background = compat.add_node(tree, "ShaderNodeBackground", -100, 300)
    output = compat.add_node(tree, "ShaderNodeOutputWorld", 150, 300)
    tree.links.new(texture.outputs["Color"], background.inputs["Color"])
    tree.links.new(background.outputs["Background"], output.inputs["Surface"])
    world.use_fake_user = True  # stays in the file while another world is in use
    return world


def is_untouched(world: bpy.types.World | None) -> bool:
    """Whether replacing this world loses nothing: there is none, or it is the grey one that every new file has."""
    if world is None:
        return True
    if world.node_tree is None:  # 4.5 without nodes: one flat color
        return _is_default_grey(world.color[:])
    if sorted(node.bl_idname for node in world.node_tree.nodes) != ["ShaderNodeBackground", "ShaderNodeOutputWorld"]:
        return False
    background: Any = next(node for node in world.node_tree.nodes if node.bl_idname == "ShaderNodeBackground")
    color, strength = background.inputs["Color"].default_value, background.inputs["Strength"].default_value
    return _is_default_grey(color) and strength == 1.0


def _is_default_grey(color: Iterable[float]) -> bool:
    return all(abs(channel - _DEFAULT_GREY) < 1e-3 for channel in tuple(color)[:3])
