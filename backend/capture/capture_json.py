# SPDX-License-Identifier: GPL-3.0-or-later
"""``capture.json``, the native form of a capture; it can express all of the model.

    {
      "unrender_capture": 1,
      "root": ".",                               where paths start from, relative to this file; may be left out
      "bounds": [[x, y, z], [x, y, z]],          lowest and highest corner of the region; may be left out
      "environment": "light.exr",                lat-long image to start the light from; may be left out
      "cameras": [
        {"width": 1920, "height": 1080, "fx": 1500.0, "fy": 1500.0, "cx": 960.0, "cy": 540.0,
         "distortion": [k1, k2, p1, p2, k3, k4, k5, k6]}           fy, cx, cy, distortion may be left out
      ],
      "views": [
        {"name": "front", "image": "images/front.png", "camera": 0,
         "cam_to_world": [[…], […], […], [0, 0, 0, 1]],            OpenGL axes: x right, y up, looking along -z
         "mask": "masks/front.png", "split": "train",              from here on all may be left out
         "exposure": 0.5, "normal_map": "…", "albedo_map": "…"}
      ]
    }

Paths have forward slashes. A reader refuses a higher version than it knows, and ignores keys that it does not know.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .checks import Notes, checked_views, rigid_pose
from .json_file import describe, number, positive, read_json, text
from .model import SPLITS, Camera, Capture, View

FILE_NAME = "capture.json"
VERSION = 1
FORMAT = "capture.json"
_KEY = "unrender_capture"


def is_capture_json(data: Any) -> bool:
    """Whether parsed JSON says that it is this format."""
    return isinstance(data, dict) and _KEY in data


def read_capture_json(file: Path) -> tuple[Capture, Notes]:
    """Read a native capture; raises UserError. Notes as ``read_transforms`` has them."""
    data = read_json(file)
    where = str(file)
    version = data[_KEY] if is_capture_json(data) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UserError("not a capture", where, f'"{_KEY}": {VERSION}', describe(data if version is None else version))
    if version > VERSION:
        raise UserError("a newer kind of capture", where, f"version {VERSION}", f"{version}", "Update Unrender.")
    base = text(data, "root", where)
    root = file.parent if base is None else (file.parent / base).resolve()
    notes = Notes()
    cameras = [_camera(entry, f"{where}, camera {index}") for index, entry in enumerate(_list(data, "cameras", where))]
    views = [
        _view(entry, cameras, root, f"{where}, view {index}", notes)
        for index, entry in enumerate(_list(data, "views", where))
    ]
    environment = _path(data, "environment", root, where)
    if environment is not None and not os.path.isfile(environment):
        notes.add(f"the environment image is missing and was ignored: {environment}")
        environment = None
    capture = Capture(root, checked_views(views, where, notes), FORMAT, _bounds(data, where), environment)
    return capture, notes


def _list(data: dict[str, Any], key: str, where: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        raise UserError(f'"{key}" is wrong', where, "a list", describe(value))
    for index, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise UserError(f'"{key}" is wrong', f"{where}, entry {index}", "an object", describe(entry))
    return value


def _path(data: dict[str, Any], key: str, root: Path, where: str) -> Path | None:
    value = text(data, key, where)
    return None if value is None else root / value.replace("\\", "/")


def _camera(entry: dict[str, Any], where: str) -> Camera:
    width, height, fx = (positive(entry, key, where) for key in ("width", "height", "fx"))
    if width is None or height is None or fx is None:
        raise UserError("the camera is incomplete", where, '"width", "height" and "fx"', describe(entry))
    cx, cy = number(entry, "cx", where), number(entry, "cy", where)
    coefficients = entry.get("distortion") or []
    if not isinstance(coefficients, list) or len(coefficients) > 8:
        raise UserError('"distortion" is wrong', where, "up to 8 numbers", describe(coefficients))
    named = {f"distortion {index}": value for index, value in enumerate(coefficients)}
    return Camera(
        max(1, round(width)),
        max(1, round(height)),
        fx,
        positive(entry, "fy", where) or fx,
        width / 2.0 if cx is None else cx,
        height / 2.0 if cy is None else cy,
        tuple(number(named, key, where) or 0.0 for key in named),
    )


def _view(entry: dict[str, Any], cameras: list[Camera], root: Path, where: str, notes: Notes) -> View:
    image = _path(entry, "image", root, where)
    if image is None:
        raise UserError("the view has no image", where, '"image"', describe(entry))
    name = text(entry, "name", where) or image.stem
    index = entry.get("camera")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(cameras):
        raise UserError(f'the camera of "{name}" is wrong', where, f"0 to {len(cameras) - 1}", describe(index))
    split = text(entry, "split", where) or "train"
    if split not in SPLITS:
        raise UserError(f'the split of "{name}" is wrong', where, ", ".join(SPLITS), split)
    return View(
        name,
        image,
        cameras[index],
        rigid_pose(entry.get("cam_to_world"), where, name, notes),
        _path(entry, "mask", root, where),
        split,
        number(entry, "exposure", where),
        _path(entry, "normal_map", root, where),
        _path(entry, "albedo_map", root, where),
    )


def _bounds(data: dict[str, Any], where: str) -> np.ndarray | None:
    value = data.get("bounds")
    if value is None:
        return None
    try:
        bounds = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        bounds = np.zeros(0)
    if bounds.shape != (2, 3) or not np.isfinite(bounds).all() or not (bounds[0] < bounds[1]).all():
        raise UserError('"bounds" is wrong', where, "lowest and highest corner, 2 x 3 numbers", describe(value))
    return bounds


def write_capture_json(capture: Capture, folder: Path) -> Path:
    """Write ``capture.json`` into ``folder`` (made where absent), whole or not at all; returns its path.

    Images are not copied: paths are relative to the capture's root, and the root to ``folder`` where a relative path
    exists. Written for reading back: numbers keep all their digits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(os.path.abspath(capture.root))
    cameras = {camera: index for index, camera in enumerate(dict.fromkeys(view.camera for view in capture.views))}
    data: dict[str, Any] = {_KEY: VERSION}
    base = _relative(root.resolve(), folder.resolve())
    if base != ".":
        data["root"] = base
    if capture.bounds is not None:
        data["bounds"] = capture.bounds.tolist()
    if capture.environment is not None:
        data["environment"] = _relative(capture.environment, root)
    data["cameras"] = [_camera_entry(camera) for camera in cameras]
    data["views"] = [_view_entry(view, cameras[view.camera], root) for view in capture.views]
    path = folder / FILE_NAME
    temporary = folder / f".{FILE_NAME}.part"
    temporary.write_text(_dump(data), encoding="utf-8")
    temporary.replace(path)
    return path


def _dump(data: dict[str, Any]) -> str:
    """JSON with one line for each camera and view, so that a person finds them and a diff is short."""

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    lines = []
    for key, value in data.items():
        if key in ("cameras", "views"):
            lines.append(f'"{key}": [\n' + ",\n".join(f"  {compact(entry)}" for entry in value) + "\n ]")
        else:
            lines.append(f"{compact(key)}: {compact(value)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _relative(path: Path, start: Path) -> str:
    """``path`` as seen from ``start``; absolute where there is no way, as between two drives."""
    try:
        return Path(os.path.relpath(os.path.abspath(path), start)).as_posix()
    except ValueError:
        return Path(os.path.abspath(path)).as_posix()


def _camera_entry(camera: Camera) -> dict[str, Any]:
    entry: dict[str, Any] = {"width": int(camera.width), "height": int(camera.height)}
    entry |= {key: float(getattr(camera, key)) for key in ("fx", "fy", "cx", "cy")}
    if camera.distorted:
        entry["distortion"] = [float(value) for value in camera.distortion]
    return entry


def _view_entry(view: View, camera: int, root: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": view.name, "image": _relative(view.image, root), "camera": camera}
    entry["cam_to_world"] = view.cam_to_world.tolist()
    entry["split"] = view.split
    if view.exposure is not None:
        entry["exposure"] = float(view.exposure)
    for key in ("mask", "normal_map", "albedo_map"):
        path = getattr(view, key)
        if path is not None:
            entry[key] = _relative(path, root)
    return entry
