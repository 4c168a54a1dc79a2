# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in a result folder (DESIGN.md 3.4), read and checked before anything is made in Blender (no bpy)."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.errors import UserError
from .capture_camera import Intrinsics

TEXTURES = ("BaseColor", "ORM", "Normal")


@dataclass(frozen=True)
class ResultView:
    """One camera of `cameras.json`; `photo` is None when its photograph is not on this machine."""

    name: str
    split: str
    pinhole: Intrinsics
    cam_to_world: np.ndarray  # [4, 4] float64, OpenGL axes
    photo: Path | None


@dataclass(frozen=True)
class ResultFolder:
    path: Path
    name: str  # as the textures are called
    textures: dict[str, Path]  # 'BaseColor', 'ORM', 'Normal'; the last two may be missing
    environment: Path | None
    contact_sheet: Path | None
    views: tuple[ResultView, ...]
    report: dict[str, Any]
    missing_photos: int
    notes: tuple[str, ...]

    @property
    def mesh(self) -> Path:
        return self.path / "asset.glb"


def find_result(path: Path) -> Path:
    """The result folder itself, given it, or the job folder around it, or a file in it."""
    for folder in (path, path / "result", path.parent):
        if (folder / "asset.glb").is_file():
            return folder
    found = "no such folder" if not path.exists() else "a folder without it" if path.is_dir() else "another file"
    raise UserError(
        "not a result",
        where=str(path),
        expected="a folder with asset.glb",
        found=found,
        remedy="Choose the job's 'result' folder.",
    )


def read_result(path: Path, capture: Path | None = None) -> ResultFolder:
    """Reads everything but the mesh and the pixels. `capture` says where the photographs lie when the result cannot.

    Raises UserError for a folder that is not a result or is damaged; photographs that are not there are only counted.
    """
    folder = find_result(path)
    base = sorted((folder / "textures").glob("*_BaseColor.png"))
    if len(base) != 1:
        raise UserError(
            "cannot tell the textures",
            where=str(folder / "textures"),
            expected="one *_BaseColor.png",
            found=str(len(base)),
        )
    name = base[0].name.removesuffix("_BaseColor.png")
    textures = {kind: folder / "textures" / f"{name}_{kind}.png" for kind in TEXTURES}
    report = _json(folder / "report.json") if (folder / "report.json").is_file() else {}
    places = [*([capture] if capture else []), *_capture_places(folder, report)]
    places = [place.parent if place.is_file() else place for place in places]
    views: list[ResultView] = []
    missing = distorted = 0
    notes = []
    if (folder / "cameras.json").is_file():
        where = folder / "cameras.json"
        document = _json(where)
        if isinstance(document.get("images"), str) and document["images"]:
            places.append(Path(document["images"]))
        listed = document.get("views")
        if not isinstance(listed, list):
            raise UserError(
                "not a list of cameras", where=str(where), expected='{"views": [...]}', found=type(listed).__name__
            )
        for index, entry in enumerate(listed):
            view, found = _view(entry, f"{where}, view {index}", places)
            views.append(view)
            missing += not found
            distorted += bool(entry.get("distortion"))
        if distorted:
            notes.append(f"{distorted} photographs have lens distortion, which cameras in Blender have not")
    else:
        notes.append("no cameras.json in the result: no cameras made")
    environment, sheet = folder / "environment.exr", folder / "contact_sheet.png"
    if not environment.is_file():
        notes.append("no environment.exr in the result: no world made")
    return ResultFolder(
        path=folder,
        name=name,
        textures={kind: file for kind, file in textures.items() if file.is_file()},
        environment=environment if environment.is_file() else None,
        contact_sheet=sheet if sheet.is_file() else None,
        views=tuple(views),
        report=report,
        missing_photos=missing,
        notes=tuple(notes),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError("cannot be read as JSON", where=str(path), found=str(error)) from error
    if not isinstance(value, dict):
        raise UserError("not a JSON object", where=str(path), expected="{...}", found=type(value).__name__)
    return value


def _view(entry: Any, where: str, places: list[Path]) -> tuple[ResultView, bool]:
    """The camera, and whether its photograph is where it should be (True when it names none)."""
    try:
        numbers = [float(entry[key]) for key in ("fx", "fy", "cx", "cy")]
        pinhole = Intrinsics(int(entry["width"]), int(entry["height"]), *numbers)
        pose = np.array(entry["cam_to_world"], np.float64).reshape(4, 4)
        image = str(entry.get("image") or "")
        name = str(entry.get("name") or Path(image).stem or "camera")
        split = str(entry.get("split", "train"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError("a camera is damaged", where=where, found=f"{type(error).__name__} {error}") from error
    if not (np.isfinite(pose).all() and all(map(math.isfinite, pinhole)) and min(pinhole[:4]) > 0):
        raise UserError("a camera is damaged", where=where, expected="finite numbers", found=str(entry)[:80])
    photo = next((place / image for place in places if (place / image).is_file()), None) if image else None
    return ResultView(name, split, pinhole, pose, photo), photo is not None or not image


def _capture_places(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Where the photographs may lie: what the report or the job's capture.json says, then around the result."""
    places = []
    capture = report.get("capture")
    said = capture.get("path") or capture.get("root") if isinstance(capture, dict) else capture
    if isinstance(said, str) and said:
        places.append(Path(said))
    job = folder.parent
    try:
        root = json.loads((job / "capture.json").read_text(encoding="utf-8")).get("root")
        if isinstance(root, str) and root:
            places.append(job / root)
    except (OSError, ValueError, AttributeError):
        pass  # a result that was moved out of its job folder
    return [*places, folder, job]
