# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP's sparse models, text and binary: ``cameras``, ``images`` and, for whoever wants them, ``points3D``.

COLMAP's poses are world-to-camera with OpenCV axes (x right, y down, z forward) and become ours here, nowhere else. The
world stays COLMAP's own, so that results stand where its points do.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import UserError
from .checks import Notes, checked_views, enumerated, rigid_pose
from .json_file import LARGEST
from .model import Camera, Capture, View

FORMAT = "COLMAP"
PLACES = (".", "sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", "dense/0/sparse", "dense/sparse")
LARGEST_COUNT = 10**8  # a damaged binary file asks for more
REMEDY = "Export the model again."

# Number in binary files, and where each parameter goes: focal lengths, center, then OpenCV's k1 k2 p1 p2 k3 k4 k5 k6.
MODELS: dict[str, tuple[int, tuple[str, ...]]] = {
    "SIMPLE_PINHOLE": (0, ("f", "cx", "cy")),
    "PINHOLE": (1, ("fx", "fy", "cx", "cy")),
    "SIMPLE_RADIAL": (2, ("f", "cx", "cy", "k1")),
    "RADIAL": (3, ("f", "cx", "cy", "k1", "k2")),
    "OPENCV": (4, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")),
    "FULL_OPENCV": (6, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
}
# What cannot be said with OpenCV's coefficients, with its number and how many parameters it has.
OTHER_MODELS = {
    "OPENCV_FISHEYE": (5, 8),
    "FOV": (7, 5),
    "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5),
    "THIN_PRISM_FISHEYE": (10, 12),
    "RAD_TAN_THIN_PRISM_FISHEYE": (11, 16),
}
_NAMES = {number: name for table in (MODELS, OTHER_MODELS) for name, (number, _) in table.items()}


@dataclass(frozen=True)
class _Image:
    name: str
    camera: int
    rotation: tuple[float, ...]  # quaternion w x y z, world to camera
    translation: tuple[float, ...]
    where: str


def find_model(path: Path) -> Path | None:
    """The folder that holds the model in a capture folder, or of one of the model's files; None where there is none."""
    if path.is_file():
        is_part = path.stem in ("cameras", "images", "points3D") and path.suffix in (".bin", ".txt")
        return path.parent if is_part and _suffix(path.parent) else None
    return next((path / place for place in PLACES if _suffix(path / place)), None)


def _suffix(folder: Path) -> str:
    """Of the model's files in a folder, "" where they are not there. COLMAP too takes the binary ones first."""
    for suffix in (".bin", ".txt"):
        if all((folder / f"{part}{suffix}").is_file() for part in ("cameras", "images")):
            return suffix
    return ""


def read_colmap(model: Path) -> tuple[Capture, Notes]:
    """Read the model in a folder that ``find_model`` gave; raises UserError. Notes as ``read_transforms`` has them.

    Photographs are sought in a folder ``images`` beside the model or above it, masks in ``masks`` beside that.
    """
    notes = Notes()
    suffix = _suffix(model)
    cameras = dict((_binary_cameras if suffix == ".bin" else _text_cameras)(model / f"cameras{suffix}"))
    images = list((_binary_images if suffix == ".bin" else _text_images)(model / f"images{suffix}"))
    where = str(model / f"images{suffix}")
    if not images:
        raise UserError("the model has no images", where, "at least 3", "none")
    others = [folder.name for folder in sorted(model.parent.glob("*")) if folder != model and _suffix(folder)]
    if others and model.parent.name == "sparse":
        notes.add(f"COLMAP made {len(others) + 1} models; {model.name} was read, not {enumerated(others)}")
    folder = _image_folder(model, [image.name for image in images])
    masks = folder.parent / "masks"
    views = []
    for image in sorted(images, key=lambda image: image.name):
        if image.camera not in cameras:
            raise UserError(
                f'the camera of "{image.name}" is missing', image.where, f"camera {image.camera}", "none", REMEDY
            )
        mask = _mask(masks, image.name)
        if mask is None and masks.is_dir():
            notes.about("{n} without a mask in the folder masks", image.name)
        name = PurePosixPath(image.name).with_suffix("").as_posix()
        views.append(View(name, folder / image.name, cameras[image.camera], _pose(image, notes), mask))
    return Capture(folder.parent, checked_views(views, where, notes), FORMAT), notes


def read_points(model: Path) -> np.ndarray | None:
    """The positions of a model's points, [P, 3] float64, world; None where it has no ``points3D``."""
    for suffix, read in ((".bin", _binary_points), (".txt", _text_points)):
        file = model / f"points3D{suffix}"
        if file.is_file():
            points = np.array(list(read(file)), np.float64).reshape(-1, 3)
            return points[np.isfinite(points).all(axis=1)]
    return None


def _image_folder(model: Path, names: list[str]) -> Path:
    """Where most of the photographs are; where none is, the place that the user should be told of."""
    above = [model, *model.resolve().parents[:3]]
    places = [base / "images" for base in above] + above
    sample = names[:: max(1, len(names) // 20)]
    found = [sum(os.path.isfile(place / name) for name in sample) for place in places]
    if max(found) > 0:
        return places[found.index(max(found))]
    root = model.parents[1] if model.parent.name == "sparse" else model.parent if model.name == "sparse" else model
    return root / "images"


def _mask(folder: Path, name: str) -> Path | None:
    """COLMAP calls the mask of ``a.jpg`` ``a.jpg.png``; others keep the name."""
    plain = PurePosixPath(name)
    candidates = (f"{name}.png", plain.with_suffix(".png").as_posix(), name)
    return next((folder / each for each in candidates if os.path.isfile(folder / each)), None)


def _pose(image: _Image, notes: Notes) -> np.ndarray:
    """``cam_to_world`` [4, 4] with OpenGL axes."""
    numbers = np.array((*image.rotation, *image.translation))
    length = float(np.linalg.norm(numbers[:4]))
    if not np.isfinite(numbers).all() or not 0.5 < length < 2.0:
        raise UserError(
            f'the pose of "{image.name}" is wrong', image.where, "a unit quaternion and a translation", str(numbers)
        )
    w, x, y, z = numbers[:4] / length
    rotation = np.array(  # world to camera
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3] = rotation.T * (1.0, -1.0, -1.0)
    pose[:3, 3] = -rotation.T @ numbers[4:]
    return rigid_pose(pose.tolist(), image.where, image.name, notes)


def _camera(model: str, width: float, height: float, parameters: tuple[float, ...], where: str) -> Camera:
    if model not in MODELS:
        raise UserError(
            "cameras of this kind cannot be used",
            where,
            "a pinhole camera, with or without OpenCV distortion",
            model,
            "Undistort the photographs first: colmap image_undistorter.",
        )
    roles = MODELS[model][1]
    if len(parameters) != len(roles):
        raise UserError("the camera is incomplete", where, f"{len(roles)} parameters of {model}", str(len(parameters)))
    values = dict(zip(roles, parameters, strict=True))
    fx = values.get("f", values.get("fx", 0.0))
    fy = values.get("fy", fx)
    sane = all(abs(value) <= LARGEST for value in parameters) and fx > 0.0 and fy > 0.0
    if not sane or not (1 <= width <= 1e6 and 1 <= height <= 1e6):
        found = f"{width:g} x {height:g}, {' '.join(f'{value:g}' for value in parameters)}"
        raise UserError("the camera is wrong", where, "positive sizes and focal lengths", found, REMEDY)
    lens = [values.get(key, 0.0) for key in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")]
    while lens and lens[-1] == 0.0:
        lens.pop()
    return Camera(int(width), int(height), fx, fy, values["cx"], values["cy"], tuple(lens))


def _text_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line but the comments; blank ones too, which mean something in ``images.txt``."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(file)) from error
    except UnicodeDecodeError as error:
        raise UserError("not a text file", str(file), "COLMAP's text in UTF-8", f"byte {error.start}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("#"):
            yield number, line.strip()


def _numbers(fields: list[str], where: str, expected: str) -> tuple[float, ...]:
    try:
        return tuple(float(field) for field in fields)
    except ValueError as error:
        raise UserError("the line is wrong", where, expected, " ".join(fields)[:60], REMEDY) from error


def _text_cameras(file: Path) -> Iterator[tuple[int, Camera]]:
    expected = "CAMERA_ID MODEL WIDTH HEIGHT PARAMS"
    for number, line in _text_lines(file):
        if not line:
            continue
        where = f"{file}, line {number}"
        fields = line.split()
        if len(fields) < 4:
            raise UserError("the line is wrong", where, expected, line[:60], REMEDY)
        key, width, height, *parameters = _numbers([fields[0], *fields[2:]], where, expected)
        if not abs(key) <= LARGEST_COUNT:
            raise UserError("the line is wrong", where, expected, line[:60], REMEDY)
        yield int(key), _camera(fields[1], width, height, tuple(parameters), where)


def _text_images(file: Path) -> Iterator[_Image]:
    """Two lines an image: pose and name, then its points, which may be none; some exporters leave that line out."""
    expected = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
    points_next = False
    for number, line in _text_lines(file):
        if points_next:
            points_next = False
            if _is_points(line):
                continue
        if not line:
            continue
        where = f"{file}, line {number}"
        fields = line.split(maxsplit=9)
        if len(fields) < 10:
            raise UserError("the line is wrong", where, expected, line[:60], REMEDY)
        values = _numbers(fields[:9], where, expected)
        if not abs(values[8]) <= LARGEST_COUNT:
            raise UserError("the line is wrong", where, expected, line[:60], REMEDY)
        yield _Image(fields[9].replace("\\", "/"), int(values[8]), values[1:5], values[5:8], where)
        points_next = True


def _is_points(line: str) -> bool:
    fields = line.split()
    if len(fields) % 3:
        return False
    try:
        for field in fields[-3:]:
            float(field)
    except ValueError:
        return False
    return True


def _text_points(file: Path) -> Iterator[tuple[float, ...]]:
    for number, line in _text_lines(file):
        if line:
            values = _numbers(line.split()[1:4], f"{file}, line {number}", "POINT3D_ID X Y Z R G B ERROR TRACK")
            if len(values) != 3:
                raise UserError("the line is wrong", f"{file}, line {number}", "POINT3D_ID X Y Z", line[:60], REMEDY)
            yield values


class _Binary:
    """Little-endian values of a file, one after the other."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.at = 0
        try:
            self.data = file.read_bytes()
        except OSError as error:
            raise UserError(f"cannot be read ({error.strerror})", str(file)) from error

    def take(self, layout: str) -> tuple[int | float, ...]:
        size = struct.calcsize(f"<{layout}")
        if self.at + size > len(self.data):
            raise self.damaged(f"{self.at + size} bytes", f"{len(self.data)}, the file is cut off")
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += size
        return values

    def count(self) -> int:
        n = int(self.take("Q")[0])
        if n > LARGEST_COUNT:
            raise self.damaged("a number of entries", str(n))
        return n

    def name(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0 or end - self.at > 4096:
            raise self.damaged("a file name", "none that ends")
        text = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end + 1
        return text.replace("\\", "/")

    def skip(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise self.damaged(f"{self.at + size} bytes", f"{len(self.data)}, the file is cut off")
        self.at += size

    def damaged(self, expected: str, found: str) -> UserError:
        return UserError("not a COLMAP file, or damaged", str(self.file), expected, found, REMEDY)


def _binary_cameras(file: Path) -> Iterator[tuple[int, Camera]]:
    data = _Binary(file)
    for _ in range(data.count()):
        key, number, width, height = data.take("iiQQ")
        name = _NAMES.get(int(number))
        where = f"{file}, camera {key}"
        if name is None:
            # Without the number of parameters the rest of the file cannot be read either.
            remedy = "Export the model as text, or undistort the photographs first: colmap image_undistorter."
            raise UserError("an unknown camera model", where, ", ".join(MODELS), f"number {number}", remedy)
        parameters = data.take(f"{len(MODELS[name][1]) if name in MODELS else OTHER_MODELS[name][1]}d")
        yield int(key), _camera(name, float(width), float(height), tuple(map(float, parameters)), where)


def _binary_images(file: Path) -> Iterator[_Image]:
    data = _Binary(file)
    for _ in range(data.count()):
        number, *pose, camera = data.take("i7di")
        name = data.name()
        data.skip(24 * data.count())  # x, y and the point's number of each observation
        yield _Image(
            name, int(camera), tuple(map(float, pose[:4])), tuple(map(float, pose[4:])), f"{file}, image {number}"
        )


def _binary_points(file: Path) -> Iterator[tuple[float, ...]]:
    data = _Binary(file)
    for _ in range(data.count()):
        values = data.take("Q3d3Bd")
        data.skip(8 * data.count())
        yield tuple(map(float, values[1:4]))
