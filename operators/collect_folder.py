# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs and masks that lie in a folder, matched by name."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import bpy

from ..backend.capture.checks import count, enumerated
from ..backend.capture.image_header import IMAGE_SUFFIXES, read_image_header
from ..backend.capture.model import Camera
from ..backend.errors import UserError
from .capture_camera import read_lens, rigid_pose
from .collect_cameras import pinhole_of
from .collect_plan import Findings, PlannedView


class NamedImages:
    """The images of a folder and of the folders in it, found by name: any case, with or without suffix."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError("no such folder of images", where=str(folder), remedy="Choose the folder again.")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        self.folder = folder
        self.files = [path for path in files if path.is_file() and not path.name.startswith(".")]
        self.by_name: dict[str, list[Path]] = {}
        for path in self.files:
            for name in (path.name, path.stem):
                known = self.by_name.setdefault(name.lower(), [])
                if path not in known:
                    known.append(path)

    def find(self, names: Iterable[str]) -> list[Path]:
        """The images that the first of the names that any image has stands for; several are ambiguous."""
        for name in names:
            if found := self.by_name.get(name.lower()):
                return found
        return []


def camera_names(camera: bpy.types.Object) -> list[str]:
    """What the photograph of a camera may be called: as the view, the object, or its data, without Blender's .001."""
    data = camera.data
    names = [str(camera.get("unrender_view") or ""), camera.name, data.name if data else ""]
    for name in list(names):
        head, dot, tail = name.rpartition(".")
        if dot and tail.isdigit() and len(tail) == 3:
            names.append(head)
    return [Path(name).name for name in dict.fromkeys(names) if name]


def views_of(
    scene: bpy.types.Scene, cameras: list[bpy.types.Object], folder: Path, findings: Findings
) -> list[PlannedView]:
    """A view for each camera that an image in the folder is called after."""
    images = NamedImages(folder)
    views: list[PlannedView] = []
    for camera in cameras:
        found = images.find(camera_names(camera))
        if not found:
            findings.about("ERROR", f"left out, no image of that name in {folder.name}", camera.name)
            continue
        if len(found) > 1:
            text = (
                f"left out, {count(len(found), 'image')} of that name, such as {enumerated([str(p) for p in found], 2)}"
            )
            findings.about("ERROR", text, camera.name)
            continue
        try:
            header = read_image_header(found[0])
            pinhole = pinhole_of(scene, camera, read_lens(camera.data, camera.name), header.width, header.height)
            pose = rigid_pose(camera.matrix_world, camera.name)
        except UserError as error:
            findings.add("ERROR", f"left out, {error}")
            continue
        name = str(camera.get("unrender_view") or found[0].stem)
        split = str(camera.get("unrender_split") or "train")
        views.append(PlannedView(name, camera.name, Camera(*pinhole), pose, found[0], split=split))
    used = {view.photo for view in views}
    spare = [path.name for path in images.files if path not in used]
    if spare:
        findings.add("INFO", f"{count(len(spare), 'image')} in {folder.name} without a camera: {enumerated(spare)}")
    if not cameras:
        findings.add("ERROR", "No camera is selected: select the cameras that took the photographs")
    return views


def with_masks(views: list[PlannedView], folder: Path, findings: Findings) -> list[PlannedView]:
    """The views with their masks from a folder: called as the photograph, with another suffix or one more."""
    masks = NamedImages(folder)
    matched = []
    for view in views:
        name = view.photo.name if view.photo else view.stem
        found = masks.find((name, f"{name}.png", view.stem, f"{view.stem}_mask", f"{view.stem}.mask"))
        found = [path for path in found if path != view.photo]
        if len(found) > 1:
            findings.about(
                "WARNING", f"{count(len(found), 'mask')} of that name in {folder.name}; none taken", view.name
            )
        elif found:
            view = replace(view, mask=found[0])
        matched.append(view)
    return matched
