# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth that synthetic captures carry beside their photographs: render passes, relit photographs, the mesh."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import OpenEXR

from ..errors import UserError
from .asset import FloatArray, IntArray

if TYPE_CHECKING:
    from ..capture.model import View

PREFIX = "ViewLayer."
"""Of the channels of a multilayer OpenEXR file that Blender wrote."""


@dataclass(frozen=True)
class Passes:
    """What one view truly shows. Values are premultiplied by coverage where the silhouette cuts a pixel."""

    base_color: FloatArray  # [H, W, 3], linear
    roughness: FloatArray  # [H, W]
    metallic: FloatArray  # [H, W]
    normal: FloatArray  # [H, W, 3], world


@dataclass(frozen=True)
class Relighting:
    """Photographs of the same object under another light."""

    name: str
    environment: Path
    photos: dict[str, Path]
    """By the name of the view."""


def read_passes(root: Path, view: View) -> Passes | None:
    """The true passes of a view, `{split}_gt/{image name}.exr`; None where the capture has none.

    Raises UserError where the file is damaged or a pass is missing.
    """
    path = root / f"{view.split}_gt" / f"{view.image.stem}.exr"
    if not path.is_file():
        return None
    try:
        with OpenEXR.File(str(path)) as file:
            channels = {
                name.removeprefix(PREFIX): channel.pixels.astype(np.float32)
                for part in file.parts
                for name, channel in part.channels.items()
            }
        return Passes(
            base_color=_color(channels, "base_color"),
            roughness=channels["roughness.X"],
            metallic=channels["metallic.X"],
            normal=np.stack([channels[f"Normal.{axis}"] for axis in "XYZ"], axis=-1),
        )
    except (RuntimeError, OSError, KeyError) as error:
        raise UserError(
            what="cannot read the true passes",
            where=str(path),
            expected="channels ViewLayer.base_color, roughness.X, metallic.X, Normal.X/Y/Z",
            found=str(error),
        ) from error


def _color(channels: dict[str, FloatArray], name: str) -> FloatArray:
    if name in channels:
        return channels[name][..., :3]
    return np.stack([channels[f"{name}.{channel}"] for channel in "RGB"], axis=-1)


def find_relightings(root: Path, views: Sequence[View], hdris: Path | None) -> tuple[list[Relighting], list[str]]:
    """The folders `relight_NAME` of a capture whose light NAME.exr stands in `hdris` (by default ../hdri beside it).

    Returns (relightings, notes): a note for each folder whose light is missing.
    """
    folder = root.parent / "hdri" if hdris is None else hdris
    found, notes = [], []
    for directory in sorted(path for path in root.glob("relight_*") if path.is_dir()):
        name = directory.name.removeprefix("relight_")
        environment = folder / f"{name}.exr"
        if not environment.is_file():
            notes.append(f"{directory.name}: not measured, no {environment}")
            continue
        photos = {view.name: directory / f"{view.image.stem}.png" for view in views}
        photos = {view: path for view, path in photos.items() if path.is_file()}
        if photos:
            found.append(Relighting(name, environment, photos))
    return found, notes


def find_light(root: Path, hdris: Path | None) -> tuple[Path | None, list[str]]:
    """The true light of a capture, the "hdri" of its meta.json, in `hdris` (by default ../hdri beside it), and notes.

    Its "strength" scales that light by a factor that an error with a free scale need not know.
    """
    try:
        name = json.loads((root / "meta.json").read_text(encoding="utf-8"))["hdri"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, []
    path = (root.parent / "hdri" if hdris is None else hdris) / str(name)
    return (path, []) if path.is_file() else (None, [f"environment_error: not measured, no {path}"])


def read_mesh(root: Path) -> tuple[FloatArray, IntArray] | None:
    """Vertices [V, 3] (world) and triangles [T, 3] of the true surface, mesh.ply; None where the capture has none."""
    path = root / "mesh.ply"
    if not path.is_file():
        return None
    import trimesh  # half a second, for which a reconstruction need not wait

    try:
        mesh: Any = trimesh.load(path, force="mesh", process=False)
        return np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        raise UserError(
            what="cannot read the true mesh", where=str(path), expected="a PLY mesh", found=str(error)
        ) from error
