# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene that `build_blend.py` saves and renders: a result alone in an otherwise empty file."""

from pathlib import Path
from typing import Any

import bpy

from ..backend.errors import UserError
from . import compat
from .cameras import look_through
from .place_result import Options, place_result

__all__ = ("UserError", "render_views", "save_scene")


def save_scene(result: Path, blend: Path, capture: Path | None, external: bool = False) -> dict[str, Any]:
    """Imports the result into the open, empty file and saves it compressed. Returns what was made, as plain JSON."""
    scene = bpy.context.scene
    assert scene is not None
    if external:  # textures go beside a file that exists
        _save(blend)
    placed = place_result(result, scene, Options(world="ALWAYS", pack=not external, capture=capture))
    # Photographs are what this file is to be held against, and only Standard shows their colors.
    scene.view_settings.view_transform = "Standard"
    views = _held_out(scene)
    if views:
        look_through(scene, views[0])
    _use_cycles(scene, samples=32)
    _save(blend)
    mesh = placed.asset.data
    assert isinstance(mesh, bpy.types.Mesh)
    return {
        "blend": str(blend),
        "blender": bpy.app.version_string,
        "object": placed.asset.name,
        "triangles": len(mesh.polygons),
        "cameras": len(placed.cameras),
        "notes": placed.notes,
    }


def render_views(folder: Path, count: int, samples: int) -> list[dict[str, str]]:
    """Renders held-out views (all views where none is held out) with Cycles on the CPU as straight-alpha RGBA PNG.

    `count` views are spread evenly over them; 0 means all. Returns [{"view", "file"}].
    """
    scene = bpy.context.scene
    assert scene is not None
    views = _held_out(scene)
    if not views:
        raise UserError("no cameras to render from", where="cameras.json", expected="at least one view", found="none")
    if 0 < count < len(views):
        views = [views[index * len(views) // count] for index in range(count)]
    _use_cycles(scene, samples)
    settings = compat.image_output(scene.render)
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("cannot write renders", where=str(folder), found=error.strerror or str(error)) from error
    rendered = []
    for camera in views:
        look_through(scene, camera)
        file = folder / f"{camera['unrender_view']}.png"
        scene.render.filepath = str(file)
        bpy.ops.render.render(write_still=True)
        rendered.append({"view": str(camera["unrender_view"]), "file": str(file)})
    return rendered


def _held_out(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """The cameras of the test views, else of all views, in the order of the capture."""
    cameras = [item for item in scene.objects if item.type == "CAMERA" and item.get("unrender_split")]
    return [camera for camera in cameras if camera["unrender_split"] == "test"] or cameras


def _use_cycles(scene: bpy.types.Scene, samples: int) -> None:
    compat.use_engine(scene, "CYCLES")
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples = samples
    cycles.use_denoising = False
    cycles.use_adaptive_sampling = False
    scene.render.film_transparent = True
    scene.render.use_persistent_data = True  # the same scene from many cameras
    if scene.world is not None:  # a full-size importance map costs seconds for each render, and shows nothing more
        scene.world.cycles.sampling_method = "MANUAL"
        scene.world.cycles.sample_map_resolution = 256


def _save(blend: Path) -> None:
    try:
        blend.parent.mkdir(parents=True, exist_ok=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(blend), compress=True, check_existing=False)
    except (OSError, RuntimeError) as error:
        raise UserError("cannot write the .blend", where=str(blend), found=str(error).strip()) from error
