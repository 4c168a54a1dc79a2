# SPDX-License-Identifier: GPL-3.0-or-later
"""NeRF-style ``transforms*.json``: one file, or one file a split, with camera-to-world poses in OpenGL axes."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .checks import Notes, checked_views, enumerated, matrix, rigid_pose
from .image_header import IMAGE_SUFFIXES, read_image_header
from .json_file import describe, number, positive, read_json, text
from .model import SPLITS, Camera, Capture, View

FORMAT = "transforms.json"
PINHOLE_MODELS = ("", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
DISTORTION_KEYS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")  # OpenCV's order


def is_transforms(data: Any) -> bool:
    """Whether parsed JSON looks like this format."""
    return isinstance(data, dict) and isinstance(data.get("frames"), list)


def split_files(folder: Path) -> list[Path]:
    """``transforms_train.json``, ``_test`` and ``_val`` of a folder, those that exist; none without the first."""
    files = [folder / f"transforms_{split}.json" for split in SPLITS]
    return [file for file in files if file.is_file()] if files[0].is_file() else []


def read_transforms(files: list[Path]) -> tuple[Capture, Notes]:
    """Read one file, or the files of the splits, into a capture; raises UserError. Held-out views are not chosen here.

    What was dropped or mended stands in the notes, which the caller turns into the capture's warnings.
    """
    notes = Notes()
    root = files[0].parent
    views: list[View] = []
    for file in files:
        views += _read_file(file, root, notes)
    where = str(files[0] if len(files) == 1 else root / "transforms_*.json")
    return Capture(root, checked_views(views, where, notes), FORMAT), notes


def _read_file(file: Path, root: Path, notes: Notes) -> list[View]:
    data = read_json(file)
    if not is_transforms(data):
        raise UserError("not a capture", str(file), 'an object with a list of "frames"', describe(data))
    named_split = re.fullmatch(r"transforms_(train|test|val)", file.stem)
    default_split = named_split.group(1) if named_split else "train"
    splits = _listed_splits(data, str(file))
    undo, undo_scale = _applied(data, str(file))
    views, unlisted = [], []
    for index, frame in enumerate(data["frames"]):
        where = f"{file}, frame {index}"
        if not isinstance(frame, dict):
            raise UserError("a frame is not an object", where, "an object", describe(frame))
        file_path = text(frame, "file_path", where)
        if file_path is None:
            raise UserError('a frame has no "file_path"', where, "the path of its image", describe(frame))
        image = find_image(file_path, root)
        name = view_name(image, root)
        split = default_split
        if splits:
            listed = splits.get(_plain(file_path))
            if listed is None:
                unlisted.append(name)
                continue
            split = listed
        if "transform_matrix" not in frame:
            raise UserError(f'"{name}" has no pose', where, '"transform_matrix"', describe(frame))
        pose = rigid_pose(frame["transform_matrix"], where, name, notes)
        pose[:3, 3] /= undo_scale
        pose = rigid_pose((undo @ pose).tolist(), where, name, Notes())
        mask_path = text(frame, "mask_path", where)
        mask = None if mask_path is None else find_image(mask_path, root)
        views.append(View(name, image, frame_camera(data, frame, image, where), pose, mask, split))
    if unlisted:
        notes.add(f"{len(unlisted)} frames left out, being in no split's list: {enumerated(unlisted)}")
    return views


def _listed_splits(data: dict[str, Any], where: str) -> dict[str, str]:
    splits: dict[str, str] = {}
    for split in SPLITS:
        names = data.get(f"{split}_filenames")
        if names is None:
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f'"{split}_filenames" is wrong', where, "a list of file names", describe(names))
        for name in names:
            splits.setdefault(_plain(name), split)
    return splits


def _applied(data: dict[str, Any], where: str) -> tuple[np.ndarray, float]:
    """What undoes the writer's change of the source's frame: a [4, 4] float64, after dividing centers by a scale.

    Solvers' exporters rotate the world upright and say so; results must stand in the frame the user's other data has.
    """
    scale = positive(data, "applied_scale", where) or 1.0
    applied = data.get("applied_transform")
    if applied is None:
        return np.eye(4), scale
    transform = matrix(applied, where, '"applied_transform"')
    own_scale = float(np.cbrt(np.linalg.det(transform[:3, :3])))
    if own_scale <= 0.0 or not np.allclose(
        transform[:3, :3].T @ transform[:3, :3], own_scale**2 * np.eye(3), atol=5e-3 * own_scale**2
    ):
        raise UserError('"applied_transform" is wrong', where, "rotation, scale and translation", "a shear or mirror")
    return np.linalg.inv(transform), scale


def frame_camera(data: dict[str, Any], frame: dict[str, Any], image: Path, where: str) -> Camera:
    """The camera of a frame: its own values before the file's; raises UserError where no focal length is given."""
    merged = {**data, **{key: value for key, value in frame.items() if value is not None}}
    model = (text(merged, "camera_model", where) or "").upper()
    if model not in PINHOLE_MODELS or merged.get("is_fisheye") or merged.get("equirectangular"):
        raise UserError(
            "cameras of this kind cannot be used",
            where,
            "a pinhole camera, with or without OpenCV distortion",
            describe(model) if model not in PINHOLE_MODELS else "a fisheye or panorama",
            "Undistort the photographs to pinhole first.",
        )
    width, height = positive(merged, "w", where), positive(merged, "h", where)
    if width is None or height is None:
        if not os.path.isfile(image):  # will be reported as missing; any size does
            width, height = width or 1.0, height or 1.0
        else:
            header = read_image_header(image)
            width, height = float(header.width), float(header.height)
    fx, fy = _focal(data, frame, width, height, where)
    cx, cy = number(merged, "cx", where), number(merged, "cy", where)
    size = (max(1, round(width)), max(1, round(height)))
    return Camera(
        *size,
        fx,
        fy,
        width / 2.0 if cx is None else cx,
        height / 2.0 if cy is None else cy,
        _distortion(merged, model, where),
    )


def _focal(data: dict[str, Any], frame: dict[str, Any], width: float, height: float, where: str) -> tuple[float, float]:
    """Focal lengths in pixels; a frame's angle goes before the file's focal length, pixels before angles."""
    for source in (frame, data):
        fx = positive(source, "fl_x", where) or _from_angle(source, ("camera_angle_x", "x_fov"), width, where)
        fy = positive(source, "fl_y", where) or _from_angle(source, ("camera_angle_y", "y_fov"), height, where)
        if fx is not None or fy is not None:
            return (fx or fy or 0.0), (fy or fx or 0.0)
    raise UserError("no focal length", where, '"camera_angle_x" or "fl_x"', describe(data))


def _from_angle(data: dict[str, Any], keys: tuple[str, str], size: float, where: str) -> float | None:
    for key, unit in zip(keys, (1.0, math.pi / 180.0), strict=True):
        angle = positive(data, key, where)
        if angle is None:
            continue
        if angle * unit >= math.pi:
            raise UserError(f'"{key}" is wrong', where, "an angle under 180 degrees", describe(data[key]))
        return 0.5 * size / math.tan(0.5 * angle * unit)
    return None


def _distortion(merged: dict[str, Any], model: str, where: str) -> tuple[float, ...]:
    values = [number(merged, key, where) or 0.0 for key in DISTORTION_KEYS]
    if model != "FULL_OPENCV" and values[5] != 0.0 and values[6] == values[7] == 0.0:
        raise UserError(
            '"k4" has two meanings',
            where,
            '0, or "camera_model": "FULL_OPENCV" for the denominator of the rational model',
            f"{values[5]:g}",
            "Undistort the photographs first.",
        )
    while values and values[-1] == 0.0:
        values.pop()
    return tuple(values)


def _plain(file_path: str) -> str:
    """A path as written, made comparable."""
    plain = file_path.replace("\\", "/")
    while plain.startswith("./"):
        plain = plain[2:]
    return plain


def find_image(file_path: str, root: Path) -> Path:
    """The file that ``file_path`` means: any slashes, with or without suffix, absolute or relative to ``root``.

    An absolute path of another machine is sought by its last parts below ``root``. Where nothing is found the plain
    reading is returned, for the caller to report.
    """
    plain = _plain(file_path)
    absolute = plain.startswith("/") or re.match(r"[A-Za-z]:/", plain) is not None
    first = Path(plain) if absolute else root / plain
    candidates = [first]
    if absolute:
        parts = [part for part in plain.split("/") if part]
        candidates += [root.joinpath(*parts[start:]) for start in range(1, len(parts))]
    for candidate in candidates:
        if os.path.isfile(candidate):  # unlike Path.is_file, false for names that no file can have
            return candidate
        if not candidate.name:
            continue
        for suffix in IMAGE_SUFFIXES:
            for variant in (suffix, suffix.upper()):
                path = candidate.with_name(candidate.name + variant)
                if os.path.isfile(path):
                    return path
    return first


def view_name(image: Path, root: Path) -> str:
    """The image's path below ``root`` without suffix, with forward slashes."""
    try:
        relative = image.relative_to(root)
    except ValueError:
        return image.stem
    return relative.with_suffix("").as_posix() if image.suffix.lower() in IMAGE_SUFFIXES else relative.as_posix()
