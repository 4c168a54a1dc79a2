# SPDX-License-Identifier: GPL-3.0-or-later
"""From a folder or a file to a capture, whatever its format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from .capture_json import FILE_NAME, is_capture_json, read_capture_json
from .checks import Notes, hold_out
from .colmap import find_model, read_colmap
from .image_header import IMAGE_SUFFIXES
from .json_file import describe, read_json
from .model import Capture
from .transforms_json import is_transforms, read_transforms, split_files


def read_capture(path: Path, holdout: int = 0) -> Capture:
    """Read the capture at ``path``, a folder or a JSON file in it, or a COLMAP model.

    In a folder ``capture.json`` goes first, then ``transforms_train.json`` with its test and val files, then
    ``transforms.json``, then COLMAP's sparse model, then the only other JSON file that holds a capture. A file is read
    alone.

    holdout: N > 1 marks every Nth view as test, the first included, where the capture has no test split.

    Raises UserError on everything that is wrong with the capture except the pixels, which the loader reads.
    What was dropped or mended stands in ``Capture.warnings``.
    """
    path = Path(path)
    if not path.exists():
        raise UserError("no such capture", str(path), "a folder, or a JSON file in it", "nothing")
    files = _json_files(path) if path.is_dir() else []
    model = None if files else find_model(path)
    if model is not None:
        capture, notes = read_colmap(model)
    else:
        capture, notes = _read_json_files(path, files or ([path] if path.is_file() else _other_json_files(path)))
    views = hold_out(capture.views, holdout, notes)
    return replace(capture, views=views, warnings=notes.warnings())


def _read_json_files(path: Path, files: list[Path]) -> tuple[Capture, Notes]:
    if files[0].suffix.lower() in IMAGE_SUFFIXES:
        raise UserError("an image is not a capture", str(path), f"a folder with {FILE_NAME} or transforms.json")
    data = read_json(files[0])
    if is_capture_json(data):
        return read_capture_json(files[0])
    if is_transforms(data):
        return read_transforms(files)
    raise UserError(
        "not a capture", str(files[0]), 'JSON with "unrender_capture" or a list of "frames"', describe(data)
    )


def _json_files(folder: Path) -> list[Path]:
    """The files that are named as captures are; of the splits, all."""
    for name in (FILE_NAME, None, "transforms.json"):
        files = split_files(folder) if name is None else [folder / name]
        if files and files[0].is_file():
            return files
    return []


def _other_json_files(folder: Path) -> list[Path]:
    """The only other JSON file that holds a capture; raises UserError where there is none, or no single one."""
    others = sorted(folder.glob("*.json"))
    captures = [file for file in others if _holds_capture(file)]
    if len(captures) == 1:
        return captures
    expected = f"{FILE_NAME}, transforms.json, transforms_train.json or a COLMAP model"
    if len(captures) > 1:
        names = ", ".join(file.name for file in captures)
        raise UserError("more than one capture", str(folder), expected, names, "Give the file instead of the folder.")
    if others:
        raise UserError("no capture in the folder", str(folder), expected, ", ".join(file.name for file in others[:4]))
    entries = list(folder.iterdir())
    images = sum(entry.suffix.lower() in IMAGE_SUFFIXES for entry in entries)
    if images:
        remedy = "Solve the cameras first: python3 -m backend solve PHOTOS --out CAPTURE."
        raise UserError("the images have no cameras", str(folder), expected, f"{images} images", remedy)
    found = f"{len(entries)} other files" if entries else "an empty folder"
    raise UserError("no capture in the folder", str(folder), expected, found)


def _holds_capture(file: Path) -> bool:
    try:
        data = read_json(file)
    except UserError:
        return False
    return is_capture_json(data) or is_transforms(data)
