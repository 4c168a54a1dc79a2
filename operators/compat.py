# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place where Blender 4.5, 5.0 and 5.2 differ for us, so that the rest reads as one version."""

from typing import Any, Literal

import bpy


def nodes_of(owner: "bpy.types.Material | bpy.types.World") -> bpy.types.NodeTree:
    """The owner's node tree, empty. 4.5 makes it on `use_nodes`; from 5.0 it is always there and setting warns."""
    if owner.node_tree is None:
        owner.use_nodes = True
    tree = owner.node_tree
    assert tree is not None
    tree.nodes.clear()
    return tree


def add_node(tree: bpy.types.NodeTree, kind: str, x: float, y: float) -> Any:
    """A new node of a kind such as "ShaderNodeTexImage". Its own properties are in no static type."""
    node = tree.nodes.new(kind)
    node.location = (x, y)
    return node


def use_engine(scene: bpy.types.Scene, engine: Literal["CYCLES", "EEVEE", "WORKBENCH"]) -> None:
    """Sets the render engine; 5.0 gave EEVEE its old name back."""
    eevee = "BLENDER_EEVEE" if bpy.app.version >= (5, 0, 0) else "BLENDER_EEVEE_NEXT"
    render: Any = scene.render  # which engines there are depends on the build and its add-ons
    render.engine = {"CYCLES": "CYCLES", "EEVEE": eevee, "WORKBENCH": "BLENDER_WORKBENCH"}[engine]


def image_output(render: bpy.types.RenderSettings) -> bpy.types.ImageFormatSettings:
    """The output format, ready for a single-layer picture (5.0 sorts the formats by medium first)."""
    settings = render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    return settings
