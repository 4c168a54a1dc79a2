# SPDX-License-Identifier: GPL-3.0-or-later
"""The Principled material of a reconstruction, wired so that Blender's glTF exporter finds one shared ORM texture."""

from collections.abc import Mapping
from typing import Any

import bpy

from . import compat
from .compat import add_node
from .mesh import UV_NAME

GLTF_GROUP = "glTF Material Output"  # the name that Blender's glTF add-on looks for


def build_material(name: str, images: Mapping[str, bpy.types.Image], has_occlusion: bool) -> bpy.types.Material:
    """`images`: 'BaseColor', and where the result has them 'ORM' (occlusion, roughness, metallic) and 'Normal' (+Y)."""
    material = bpy.data.materials.new(name)
    tree = compat.nodes_of(material)
    material.use_backface_culling = True  # glTF would call the surface two-sided otherwise
    links = tree.links
    shader = add_node(tree, "ShaderNodeBsdfPrincipled", 0, 300)
    output = add_node(tree, "ShaderNodeOutputMaterial", 300, 300)
    links.new(shader.outputs["BSDF"], output.inputs["Surface"])

    base = _texture(tree, images["BaseColor"], "Base Color", -700, 500)
    links.new(base.outputs["Color"], shader.inputs["Base Color"])
    if "ORM" in images:
        orm = _texture(tree, images["ORM"], "Occlusion, Roughness, Metallic", -700, 200)
        separate = add_node(tree, "ShaderNodeSeparateColor", -300, 200)
        links.new(orm.outputs["Color"], separate.inputs["Color"])
        links.new(separate.outputs["Green"], shader.inputs["Roughness"])
        links.new(separate.outputs["Blue"], shader.inputs["Metallic"])
        if has_occlusion:
            group = add_node(tree, "ShaderNodeGroup", 0, 450)
            group.node_tree = gltf_group()
            group.label = GLTF_GROUP
            links.new(separate.outputs["Red"], group.inputs["Occlusion"])
    if "Normal" in images:
        texture = _texture(tree, images["Normal"], "Normal", -700, -100)
        normal_map = add_node(tree, "ShaderNodeNormalMap", -300, -100)
        normal_map.uv_map = UV_NAME
        links.new(texture.outputs["Color"], normal_map.inputs["Color"])
        links.new(normal_map.outputs["Normal"], shader.inputs["Normal"])
    tree.nodes.active = base  # what texture painting and the solid view's 'Texture' color pick up
    return material


def gltf_group() -> bpy.types.NodeTree:
    """The node group that carries occlusion to the glTF exporter; the one that the user's file already has, if any."""
    group = bpy.data.node_groups.get(GLTF_GROUP)
    if group is None:
        group = bpy.data.node_groups.new(GLTF_GROUP, "ShaderNodeTree")
        add_node(group, "NodeGroupInput", -200, 0)
    if "Occlusion" not in group.interface.items_tree:
        socket: Any = group.interface.new_socket("Occlusion", in_out="INPUT", socket_type="NodeSocketFloat")
        socket.default_value = 1.0
    return group


def _texture(tree: bpy.types.NodeTree, image: bpy.types.Image, label: str, x: float, y: float) -> Any:
    node = add_node(tree, "ShaderNodeTexImage", x, y)
    node.label = label
    node.image = image
    node.extension = "EXTEND"  # as asset.glb's sampler: no bleeding across the tile's border
    return node
