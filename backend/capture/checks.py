# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks that every reader's views pass through before anyone sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .image_header import read_image_header
from .json_file import LARGEST, describe
from .model import SPLITS, Camera, View

ROTATION_TOLERANCE = 5e-3  # files with four digits pass, sheared ones do not
SCALE_TOLERANCE = 1e-3
ASPECT_TOLERANCE = 0.01
FEWEST_VIEWS = 3  # fewer cannot fix a surface


@dataclass
class Notes:
    """Collects what concerns many views, so that the user reads one line and not hundreds."""

    lines: list[str] = field(default_factory=list)
    grouped: dict[str, list[str]] = field(default_factory=dict)

    def add(self, line: str) -> None:
        """A line of its own."""
        self.lines.append(line)

    def about(self, text: str, name: str) -> None:
        """``text`` is true of the view called ``name``; it may hold ``{n}`` for how many share it."""
        self.grouped.setdefault(text, []).append(name)

    def warnings(self) -> tuple[str, ...]:
        """All lines, the grouped ones with their count and names."""
        groups = (
            text.format(n=count(len(names), "view")) + f": {enumerated(names)}" for text, names in self.grouped.items()
        )
        return (*self.lines, *groups)


def count(n: int, noun: str) -> str:
    """``1 view``, ``2 views``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def enumerated(names: Sequence[str], most: int = 6) -> str:
    """Names separated by commas, the end left out where there are many."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def rigid_pose(value: Any, where: str, name: str, notes: Notes) -> np.ndarray:
    """A camera-to-world matrix from JSON as a rigid motion.

    Parameters: ``value`` is 4×4 or 3×4 numbers, rows first. A common scale is dropped with a note, as Blender's
    ``matrix_world`` may carry one that means nothing for a camera.

    Returns [4, 4] float64. Raises UserError on anything but rotation, translation and scale.
    """
    pose = matrix(value, where, f'the pose of "{name}"')
    linear = pose[:3, :3]
    lengths = np.linalg.norm(linear, axis=0)
    if lengths.min() < 1e-9:
        raise UserError(f'the pose of "{name}" is not a camera pose', where, "a rotation", "a column of zeros")
    determinant = float(np.linalg.det(linear))
    if determinant < 0.0:
        raise UserError(
            f'the pose of "{name}" is mirrored',
            where,
            "a right-handed rotation (determinant 1)",
            f"determinant {determinant:.3g}",
            "Export the cameras with OpenGL axes: x right, y up, looking along -z.",
        )
    scale = float(np.prod(lengths) ** (1.0 / 3.0))
    left, stretch, right = np.linalg.svd(linear / scale)
    if np.abs(stretch - 1.0).max() > ROTATION_TOLERANCE:
        raise UserError(
            f'the pose of "{name}" is sheared or unevenly scaled',
            where,
            "a rotation",
            f"axes stretched by {stretch.min() * scale:.4g} to {stretch.max() * scale:.4g}",
            "Apply the scale of the camera and its parents, and export again.",
        )
    if abs(scale - 1.0) > SCALE_TOLERANCE:
        notes.about("the pose of {n} carried a scale, which was dropped", name)
    rigid = np.eye(4)
    rigid[:3, :3] = left @ right
    rigid[:3, 3] = pose[:3, 3]
    return rigid


def matrix(value: Any, where: str, what: str) -> np.ndarray:
    """Numbers from JSON as an affine matrix, [4, 4] float64; raises UserError unless 3×4 or 4×4 and finite."""
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.shape not in ((4, 4), (3, 4)):
        found = f"{' x '.join(map(str, numbers.shape))} numbers" if numbers.ndim == 2 else describe(value)
        raise UserError(f"{what} is not a matrix", where, "4 x 4 or 3 x 4 numbers", found)
    if not (np.abs(numbers) <= LARGEST).all():
        found = "NaN or infinity" if not np.isfinite(numbers).all() else f"{np.abs(numbers).max():g}"
        raise UserError(f"{what} is not finite", where, "finite numbers", found)
    full = np.eye(4)
    full[: numbers.shape[0]] = numbers
    if not np.allclose(full[3], (0.0, 0.0, 0.0, 1.0), atol=1e-6):
        raise UserError(f"{what} has a wrong last row", where, "0 0 0 1", " ".join(f"{n:g}" for n in full[3]))
    return full


def checked_views(views: Sequence[View], where: str, notes: Notes) -> tuple[View, ...]:
    """Views whose files exist, whose names differ and whose cameras fit their images; raises UserError.

    ``where`` is the file that lists them. Pixels are not decoded here.
    """
    if not views:
        raise UserError("the capture has no views", where, "at least 3", "none")
    views = _existing(_distinct(views, where, notes), where, notes)
    return tuple(_fitting(view, notes) for view in views)


def _existing(views: Sequence[View], where: str, notes: Notes) -> list[View]:
    kept: list[View] = []
    lost: dict[str, list[tuple[View, Path]]] = {"image": [], "mask": []}
    for view in views:
        if not os.path.isfile(view.image):
            lost["image"].append((view, view.image))
        elif view.mask is not None and not os.path.isfile(view.mask):
            lost["mask"].append((view, view.mask))
        else:
            kept.append(view)
    if len(kept) < min(FEWEST_VIEWS, len(views)) or 2 * len(kept) < len(views):
        examples = [f"{count(len(files), kind)} such as {files[0][1]}" for kind, files in lost.items() if files]
        raise UserError(
            "too many files are missing to go on without them",
            where,
            f"the files of {count(len(views), 'view')}",
            f"those of {len(kept)}; missing: {' and '.join(examples)}",
            "Put the files there, or correct the paths.",
        )
    for kind, files in lost.items():
        for view, _ in files:
            notes.about(f"{{n}} left out, the {kind} is missing", view.name)
    return kept


def _distinct(views: Sequence[View], where: str, notes: Notes) -> list[View]:
    """Refuse a name listed twice in one split; a photograph in two splits stays in the first of train, test, val."""
    first: dict[str, View] = {}
    for view in sorted(views, key=lambda view: SPLITS.index(view.split)):
        other = first.setdefault(view.name, view)
        if other is view:
            continue
        if other.split == view.split:
            raise UserError(
                f'two views are called "{view.name}"', where, "each view once", "a duplicate", "Remove one of them."
            )
        notes.about(f"{{n}} of the split {view.split} left out, being in {other.split} too", view.name)
    return [view for view in views if first[view.name] is view]


def _fitting(view: View, notes: Notes) -> View:
    """The view with its camera at the image's own resolution."""
    header = read_image_header(view.image)
    camera = view.camera
    if header.orientation in range(2, 9):
        notes.about("the EXIF tag of {n} says rotated, which was ignored: pixels are taken as stored", view.name)
    if (header.width, header.height) != (camera.width, camera.height):
        notes.about(
            f"intrinsics for {camera.width} x {camera.height} were scaled to the images of "
            f"{header.width} x {header.height} in {{n}}",
            view.name,
        )
        camera = fitted_camera(camera, header.width, header.height, view.image, header.orientation)
    if view.mask is not None:
        _same_size(view.mask, header.width, header.height, view)
    view = replace(view, camera=camera)
    if view.normal_map is not None and not os.path.isfile(view.normal_map):
        notes.about("the normal map of {n} is missing and was ignored", view.name)
        view = replace(view, normal_map=None)
    if view.albedo_map is not None and not os.path.isfile(view.albedo_map):
        notes.about("the albedo map of {n} is missing and was ignored", view.name)
        view = replace(view, albedo_map=None)
    return view


def fitted_camera(camera: Camera, width: int, height: int, image: Path, orientation: int = 1) -> Camera:
    """The camera at the image's own resolution; raises UserError where the shapes differ."""
    stretch = (width / camera.width) / (height / camera.height)
    if abs(stretch - 1.0) > ASPECT_TOLERANCE + 1.0 / min(camera.width, camera.height, width, height):
        remedy = "Correct the camera's width and height, or use the images that the cameras were solved with."
        if orientation >= 5:
            remedy = "Its EXIF tag says rotated: rotate the pixels themselves and remove the tag."
        raise UserError(
            "the image does not fit its camera",
            str(image),
            f"the shape of {camera.width} x {camera.height} pixels",
            f"{width} x {height}",
            remedy,
        )
    return camera.resized(width, height)


def _same_size(path: Path, width: int, height: int, view: View) -> None:
    header = read_image_header(path)
    if (header.width, header.height) != (width, height):
        raise UserError(
            "the mask has another size than its image",
            str(path),
            f"{width} x {height} pixels as {view.image.name}",
            f"{header.width} x {header.height}",
            "Export the masks at the images' resolution.",
        )


def hold_out(views: Sequence[View], every: int, notes: Notes) -> tuple[View, ...]:
    """Turn every Nth train view, the first one included, into a test view where there is no test split."""
    if every == 0 or any(view.split == "test" for view in views):
        return tuple(views)
    if every < 2:
        raise UserError("wrong holdout", "holdout", "0 (none) or at least 2", str(every))
    train = [view for view in views if view.split == "train"]
    held = {id(view) for view in train[::every]}
    notes.add(f"{len(held)} of {count(len(train), 'view')} held out for testing")
    return tuple(replace(view, split="test") if id(view) in held else view for view in views)
