# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place where Blender 4.5, 5.0 and 5.2 differ for us, so that the rest reads as one version."""

import bpy


def nodes_of(owner: "bpy.types.Material | bpy.types.World") -> bpy.types.NodeTree:
    """The owner's node tree, empty. 4.5 makes it on `use_nodes`; from 5.0 it is always there and setting warns."""
    if owner.node_tree is None:
        owner.use_nodes = True
    tree = owner.node_tree
    assert tree is not None
    tree.nodes.clear()
    return tree


def eevee_id() -> str:
    """5.0 gave EEVEE its old name back."""
    return "BLENDER_EEVEE" if bpy.app.version >= (5, 0, 0) else "BLENDER_EEVEE_NEXT"


def image_output(render: bpy.types.RenderSettings) -> bpy.types.ImageFormatSettings:
    """The output format, ready for a single-layer picture (5.0 sorts the formats by medium first)."""
    settings = render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    return settings
