# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures that a blend file keeps: beside it with a relative path when it was saved, inside it otherwise."""

import filecmp
import os
import shutil
from pathlib import Path

import bpy

from ..backend.errors import UserError


def blend_folder() -> Path | None:
    """Where the open blend file lies, or None while it was never saved."""
    return Path(bpy.data.filepath).parent if bpy.data.filepath else None


def keep_image(source: Path, asset: str, kind: str, data: bool, pack: bool) -> bpy.types.Image:
    """Loads a picture of the result, as `asset`_`kind`, so that it outlives the result folder.

    `data` marks it Non-Color. With `pack`, or while the blend file was never saved, the file's bytes go into the blend
    file; otherwise the picture is copied to `//textures/asset/` and referenced relative to the blend file.
    Raises UserError for a file that is no picture.
    """
    folder = blend_folder()
    group = bpy.path.clean_name(asset)  # what an artist calls a thing need not be a file's name
    name = f"{group}_{kind}"
    if pack or folder is None:
        image = load_image(source)
        image.pack()
        image.filepath_raw = f"//textures/{group}/{name}{source.suffix}"  # where 'Unpack' will put it
        for packed in image.packed_files:
            packed.filepath = image.filepath_raw
    else:
        image = load_image(_copy(source, folder / "textures" / group, name))
        image.filepath = bpy.path.relpath(image.filepath)
    image.name = f"{asset}_{kind}"
    if data:
        image.colorspace_settings.name = "Non-Color"
        image.alpha_mode = "NONE"
    return image


def load_image(path: Path) -> bpy.types.Image:
    """Blender makes an image of any file and only complains when it draws it: look at once."""
    try:
        image = bpy.data.images.load(str(path), check_existing=False)
    except RuntimeError as error:
        raise UserError("cannot read the picture", where=str(path), found=str(error).strip()) from error
    if image.size[0] == 0 or image.size[1] == 0:
        bpy.data.images.remove(image)
        raise UserError("not a picture", where=str(path), expected="a PNG, JPEG or EXR file", found="something else")
    return image


def _copy(source: Path, folder: Path, name: str) -> Path:
    """Copies without overwriting another asset's texture; the same bytes are not copied twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1000):
            target = folder / f"{name}{f'_{number}' if number else ''}{source.suffix}"
            if not target.exists():
                draft = target.with_name(f"{target.name}.part")
                shutil.copyfile(source, draft)
                os.replace(draft, target)
                return target
            if target.samefile(source) or filecmp.cmp(source, target, shallow=False):
                return target
    except OSError as error:
        raise UserError(
            "cannot write textures beside the blend file",
            where=str(folder),
            found=error.strerror or str(error),
            remedy="Save the blend file where you may write, or import with packed textures.",
        ) from error
    raise UserError("too many textures of one name", where=str(folder), expected="a free name", found=name)
