# SPDX-License-Identifier: GPL-3.0-or-later
"""The one object in the open file that shows a running job's mesh.

It is runtime data to Blender: drawn and undone like everything else, but never saved. The object itself tells which
preview it shows, so that undo and loading files, which take Python's references away, cannot confuse us.
"""

import bpy
import numpy as np

from .compat import add_node, nodes_of
from .preview_file import PreviewMesh

NAME = "Unrender Preview"
KEY = "unrender_preview"  # the custom property with the path of the file shown
COLOR = "Color"

_name = NAME  # as Blender gave it: an object of the artist's may be called so already


def find() -> bpy.types.Object | None:
    """The preview object of the open file."""
    named = bpy.data.objects.get(_name)
    return named if named is not None and KEY in named else None


def shown() -> str:
    """The path of the preview that is shown, "" if there is none."""
    found = find()
    return str(found.get(KEY, "")) if found is not None else ""


def is_edited() -> bool:
    """Whether the artist has opened the preview in another mode, where its mesh may not be touched."""
    found = find()
    return found is not None and found.mode != "OBJECT"


def show(source: PreviewMesh, scene: bpy.types.Scene) -> None:
    """Shows a mesh in a scene, in place of the one before it. Takes about 15 ms for 200 000 triangles."""
    target = find() or _new_object()
    mesh = target.data
    assert isinstance(mesh, bpy.types.Mesh)
    _write(mesh, source)
    target[KEY] = str(source.path)
    for block in (target, mesh, *mesh.materials):
        if block is not None:
            block.is_runtime_data = True
    if scene.collection.objects.get(target.name) is None:
        for collection in target.users_collection:
            collection.objects.unlink(target)
        scene.collection.objects.link(target)


def remove() -> bool:
    """Takes the preview out of the file; says whether there was one."""
    found = find()
    if found is None:
        return False
    mesh = found.data
    materials = list(mesh.materials) if isinstance(mesh, bpy.types.Mesh) else []
    bpy.data.objects.remove(found)
    for block in (mesh, *materials):
        if block is not None and not block.users:
            bpy.data.batch_remove([block])
    return True


def _new_object() -> bpy.types.Object:
    global _name
    mesh = bpy.data.meshes.new(NAME)
    mesh.materials.append(_material())
    made = bpy.data.objects.new(NAME, mesh)
    made[KEY] = ""
    _name = made.name
    made.hide_render = True
    made.hide_select = True  # it is not for keeping: what is built on it would be lost
    return made


def _material() -> bpy.types.Material:
    """Shows the colors where the viewport draws materials."""
    material = bpy.data.materials.new(NAME)
    tree = nodes_of(material)
    color = add_node(tree, "ShaderNodeVertexColor", -200, 0)
    color.layer_name = COLOR
    shader = add_node(tree, "ShaderNodeBsdfPrincipled", 0, 0)
    shader.inputs["Roughness"].default_value = 0.8
    output = add_node(tree, "ShaderNodeOutputMaterial", 300, 0)
    tree.links.new(color.outputs["Color"], shader.inputs["Base Color"])
    tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    return material


def _write(mesh: bpy.types.Mesh, source: PreviewMesh) -> None:
    """Attributes by name, for these are copied as one block; the properties of the same data are set one by one."""
    vertices, edges, triangles = source.counts
    if (len(mesh.vertices), len(mesh.edges), len(mesh.polygons)) != source.counts:
        mesh.clear_geometry()
        mesh.vertices.add(vertices)
        mesh.edges.add(edges)
        mesh.loops.add(3 * triangles)
        mesh.polygons.add(triangles)
        mesh.polygons.foreach_set("loop_start", np.arange(0, 3 * triangles, 3, dtype=np.int32))
    for name, field, values in (
        ("position", "vector", source.positions),
        (".edge_verts", "value", source.edges),
        (".corner_vert", "value", source.corners),
        (".corner_edge", "value", source.corner_edges),
    ):
        mesh.attributes[name].data.foreach_set(field, values)
    colors = mesh.color_attributes.get(COLOR)
    if colors is None:
        colors = mesh.color_attributes.new(COLOR, "FLOAT_COLOR", "POINT")
        mesh.color_attributes.active_color = colors
    colors.data.foreach_set("color", source.colors)
    mesh.update()
