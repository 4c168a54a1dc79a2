# SPDX-License-Identifier: GPL-3.0-or-later
"""The asset browser's entry of a result: where it came from, tags, and a picture."""

import json
from typing import TYPE_CHECKING, Any

import bpy

from .asset_find import active_asset, cameras_of, results, triangle_count
from .asset_preview import make_preview
from .blender_context import scene_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .blender_context import OperatorResult


def add_to_browser(asset: bpy.types.Object, cameras: "Sequence[bpy.types.Object]") -> None:
    """Marks the mesh object as an asset (appending it brings material and textures along), or renews its entry."""
    asset.asset_mark()
    entry = asset.asset_data
    assert entry is not None
    provenance, settings = noted(asset, "provenance"), noted(asset, "settings")
    entry.author = str(provenance.get("author") or provenance.get("tool") or "")
    entry.copyright = str(provenance.get("copyright") or "")
    entry.description = describe(asset)
    for tag in ("Unrender", "Reconstruction", str(settings.get("preset") or "").capitalize()):
        if tag:
            entry.tags.new(tag, skip_if_exists=True)
    make_preview(asset, base_color(asset), cameras)


def describe(asset: bpy.types.Object) -> str:
    """Where it came from, as a few sentences; only what the result's report says."""
    provenance, settings, versions = (noted(asset, key) for key in ("provenance", "settings", "versions"))
    made = ["Reconstructed"]
    if provenance.get("photographs"):
        made.append(f"from {provenance['photographs']} photographs")
    tool = provenance.get("tool") or (f"Unrender {versions['unrender']}" if "unrender" in versions else "")
    if tool:
        made.append(f"with {tool}")
    if settings.get("preset"):
        made.append(f"(preset {settings['preset']})")
    if provenance.get("written"):
        made.append(f"on {str(provenance['written'])[:10]}")
    sentences = [" ".join(made)]
    mesh = asset.data
    assert isinstance(mesh, bpy.types.Mesh)
    texture = base_color(asset)
    size = f", textures of {texture.size[0]} × {texture.size[1]}" if texture is not None else ""
    sentences.append(f"{triangle_count(mesh):,} triangles{size}")
    libraries = [f"{key} {versions[key]}" for key in ("torch", "warp-lang") if key in versions]
    if libraries:
        sentences.append(f"Computed with {', '.join(libraries)}")
    if provenance.get("rights"):
        sentences.append(str(provenance["rights"]).rstrip("."))
    return ". ".join(sentences) + "."


def noted(owner: bpy.types.ID, key: str) -> dict[str, Any]:
    """What the import wrote down of a part of the result's report; empty where there is nothing or it was edited."""
    try:
        value = json.loads(str(owner.get(f"unrender_{key}", "{}")))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def base_color(asset: bpy.types.Object) -> bpy.types.Image | None:
    """The picture that colors the surface."""
    material = asset.active_material
    for node in material.node_tree.nodes if material is not None and material.node_tree is not None else ():
        texture: Any = node
        if node.bl_idname == "ShaderNodeTexImage" and node.outputs["Color"].is_linked:
            targets = {link.to_socket.name for link in texture.outputs["Color"].links}
            if "Base Color" in targets and texture.image is not None:
                image: bpy.types.Image = texture.image
                return image
    return None


class UNRENDER_OT_mark_asset(bpy.types.Operator):
    """Offer the mesh with its material in the asset browser, with a preview, tags and where it came from; or renew
    that after a change. Takes less than a second. Blender then keeps the object in the file even when you delete it"""

    bl_idname = "unrender.mark_asset"
    bl_label = "Add to Asset Browser"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        asset = active_asset(context)
        if asset is None:
            cls.poll_message_set("Import a result first")
            return False
        if asset.mode == "EDIT":
            cls.poll_message_set("Leave Edit Mode first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        asset = active_asset(context)
        assert asset is not None
        homes = [found for found in results(scene_of(context)) if asset.name in found.all_objects]
        add_to_browser(asset, cameras_of(homes[0]) if homes else [])
        self.report({"INFO"}, f"{asset.name} is in the asset browser")
        return {"FINISHED"}
