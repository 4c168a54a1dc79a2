# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns a result folder into native Blender data: what the import operator, the running job and the demo all call.

Name              collection
  Name Asset      the mesh object
  Name Cameras    one camera per view, its photograph behind it
  Name Reference  the contact sheet, off until it is clicked on
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import bpy
import numpy as np

from .asset_entry import add_to_browser
from .asset_find import RESULT_KEY, WORLD_KEY
from .asset_world import use_world
from .cameras import add_photo, build_camera, look_through
from .glb import GlbMesh, read_glb
from .images import keep_image
from .material import build_material
from .mesh import build_mesh
from .result_folder import ResultFolder, read_result
from .world import build_world, is_untouched

WorldChoice = Literal["AUTO", "ALWAYS", "NEVER"]


@dataclass(frozen=True)
class Options:
    """What the artist chooses; the defaults leave everything of the scene that is not ours alone."""

    name: str = ""  # empty: as the textures are called
    world: WorldChoice = "AUTO"  # AUTO: only where the scene has the grey world of a new file, or none
    cameras: bool = True
    photographs: bool = True
    pack: bool = False  # textures inside the blend file even when it was saved
    asset_entry: bool = True  # offer the mesh in the asset browser
    capture: Path | None = None  # where the photographs are, if the result does not know


@dataclass
class Placed:
    """What was made."""

    collection: bpy.types.Collection
    asset: bpy.types.Object
    material: bpy.types.Material
    world: bpy.types.World | None = None
    world_assigned: bool = False
    cameras: list[bpy.types.Object] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def place_result(folder: Path, scene: bpy.types.Scene, options: Options | None = None) -> Placed:
    """Imports the result in `folder` (or in the job around it) into `scene`.

    Raises UserError, with nothing left behind in the blend file, when the result is missing or damaged.
    """
    options = options or Options()
    result = read_result(folder, options.capture)
    source = read_glb(result.mesh)
    before = _datablocks()
    try:
        return _place(result, source, scene, options)
    except BaseException:
        bpy.data.batch_remove([block for key, block in _datablocks().items() if key not in before])
        raise


def _place(result: ResultFolder, source: GlbMesh, scene: bpy.types.Scene, options: Options) -> Placed:
    called = options.name or result.name
    name = _free_name(called)
    images = {
        kind: keep_image(path, called, kind, data=kind != "BaseColor", pack=options.pack)
        for kind, path in result.textures.items()
    }
    material = build_material(name, images, source.has_occlusion)
    mesh = build_mesh(source, name)
    mesh.materials.append(material)
    asset = bpy.data.objects.new(name, mesh)

    collection = bpy.data.collections.new(name)
    parts = {part: bpy.data.collections.new(f"{name} {part}") for part in ("Asset", "Cameras", "Reference")}
    for child in parts.values():
        collection.children.link(child)
    parts["Asset"].objects.link(asset)
    placed = Placed(collection, asset, material, notes=list(result.notes))
    _record_provenance(placed, result)

    if result.environment is not None:
        light = keep_image(result.environment, called, "Environment", data=False, pack=options.pack)
        light.colorspace_settings.name = "Linear Rec.709"
        placed.world = build_world(name, light)
        collection[WORLD_KEY] = placed.world
    bounds = np.stack([source.positions.min(axis=0), source.positions.max(axis=0)]).astype(np.float64)  # [2, 3]
    if options.cameras:
        for view in result.views:
            camera = build_camera(view, name, bounds)
            parts["Cameras"].objects.link(camera)
            placed.cameras.append(camera)
            if options.photographs and view.photo is not None:
                add_photo(camera, view.photo)
        if options.photographs and result.missing_photos:
            placed.notes.append(f"{result.missing_photos} of {len(result.views)} photographs are not on this machine")
    if result.contact_sheet is not None:
        sheet = keep_image(result.contact_sheet, called, "ContactSheet", data=False, pack=options.pack)
        parts["Reference"].objects.link(_contact_sheet(sheet, name, bounds))
    if options.asset_entry:
        add_to_browser(asset, placed.cameras)

    # Only from here on does the user's own scene change.
    scene.collection.children.link(collection)
    hide_until_asked(scene, parts["Reference"])
    if placed.world is not None and (
        options.world == "ALWAYS" or (options.world == "AUTO" and is_untouched(scene.world))
    ):
        use_world(scene, placed.world)
        placed.world_assigned = True
    if placed.cameras and scene.camera is None:
        look_through(scene, placed.cameras[0])
    return placed


def hide_until_asked(scene: bpy.types.Scene, collection: bpy.types.Collection) -> None:
    """Keeps a collection out of renders and closes its eye in every view layer: a click there shows it."""
    collection.hide_render = True
    for layer in scene.view_layers:
        if (found := _layer_collection(layer.layer_collection, collection)) is not None:
            found.hide_viewport = True


def _free_name(name: str) -> str:
    """The name, numbered as Blender does where it is taken, so that all parts of one import are called the same."""
    kinds = (bpy.data.collections, bpy.data.objects, bpy.data.meshes, bpy.data.materials)
    numbered = (f"{name}.{number:03}" for number in range(1, 1000))
    return next((free for free in (name, *numbered) if not any(free in kind for kind in kinds)), name)


def _contact_sheet(image: bpy.types.Image, name: str, bounds: np.ndarray) -> Any:
    """The contact sheet as a picture standing behind the asset, as wide as three of it."""
    sheet: Any = bpy.data.objects.new(f"{name} Contact Sheet", None)
    sheet.empty_display_type = "IMAGE"
    sheet.data = image
    size = float(np.linalg.norm(bounds[1] - bounds[0]))
    sheet.empty_display_size = 3 * size
    sheet.rotation_euler = (np.pi / 2, 0, 0)
    sheet.location = (*bounds.mean(axis=0)[:1], bounds[1, 1] + 2 * size, bounds.mean(axis=0)[2])
    return sheet


def _record_provenance(placed: Placed, result: ResultFolder) -> None:
    """Where the data came from, as custom properties that the artist can read and that survive in the blend file."""
    report = result.report
    properties: dict[str, str | float] = {RESULT_KEY: str(result.path)}
    for key in ("versions", "provenance", "settings", "metrics"):
        if isinstance(report.get(key), dict):
            properties[f"unrender_{key}"] = json.dumps(report[key], ensure_ascii=False)
    for owner in (placed.collection, placed.asset):
        for key, value in properties.items():
            owner[key] = value


def _layer_collection(
    root: bpy.types.LayerCollection, wanted: bpy.types.Collection
) -> bpy.types.LayerCollection | None:
    stack = [root]
    while stack:
        layer = stack.pop()
        if layer.collection == wanted:
            return layer
        stack += layer.children
    return None


_KINDS = ("collections", "objects", "meshes", "materials", "images", "worlds", "cameras", "node_groups")


def _datablocks() -> dict[int, bpy.types.ID]:
    """Every datablock of the kinds that an import makes, by identity."""
    return {block.as_pointer(): block for kind in _KINDS for block in getattr(bpy.data, kind)}
