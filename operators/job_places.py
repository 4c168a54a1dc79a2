# SPDX-License-Identifier: GPL-3.0-or-later
"""Where jobs and their logs go, and which Python runs them: the preferences, and what holds without them."""

import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path
from typing import Any

import bpy

from .. import __package__ as base_package
from ..backend.errors import UserError
from .blender_context import settings_of
from .install_files import Choices
from .queue_files import Entry, entries


def preferences(context: bpy.types.Context) -> Any:
    """Our preferences (panels.preferences), None where the add-on is not enabled as one."""
    addon = context.preferences.addons.get(base_package)
    return addon.preferences if addon else None


def job_folder(scene: bpy.types.Scene, capture: Path, taken: Collection[Path] = ()) -> Path:
    """Where the job goes: what the artist chose, else a new folder in the default place or beside the blend file.

    `taken`: folders that will be there soon. Those that the queue has promised are known here.
    """
    chosen = settings_of(scene).output
    if chosen:
        return Path(bpy.path.abspath(chosen))
    default = getattr(preferences(bpy.context), "jobs_folder", "")
    if default:
        parent = Path(bpy.path.abspath(default))
    elif bpy.data.filepath:
        parent = Path(bpy.data.filepath).parent / "unrender"
    else:
        parent = kept_folder("results")
    name = (capture.stem if capture.is_file() else capture.name) or "capture"
    taken = {*taken, *(Path(entry.folder) for entry in waiting())}
    number = 1
    while (folder := parent / (name if number == 1 else f"{name}_{number}")).exists() or folder in taken:
        number += 1
    return folder


def log_file(folder: Path) -> Path:
    """Where the process's own words go: outside the job folder, which the job wants empty or its own."""
    return user_folder("logs") / f"{folder.name}.log"


def user_folder(name: str) -> Path:
    """A folder of the add-on's own in the user's Blender data, which stays until the add-on is uninstalled."""
    return Path(bpy.utils.extension_path_user(base_package, path=name, create=True))


def kept_folder(name: str) -> Path:
    """A folder for what an artist makes in a file that was never saved. It stands in the data folder, for Blender
    removes `user_folder` together with the extension."""
    return Choices(environ(bpy.context).get("UNRENDER_HOME", "")).base / name


def register_folder() -> Path | None:
    """Where notes about running jobs stand, None where there is nowhere to write."""
    return _own_folder("jobs")


def queue_folder() -> Path | None:
    """Where the queue stands, None where there is nowhere to write."""
    return _own_folder("queue")


def waiting() -> list[Entry]:
    """The reconstructions that wait for their turn, the next one first."""
    queue = queue_folder()
    return entries(queue) if queue else []


def _own_folder(name: str) -> Path | None:
    try:
        return user_folder(name)
    except (ValueError, OSError):  # not installed as an extension, or a full disk
        return None


def python(context: bpy.types.Context) -> list[str]:
    """The interpreter that starts the backend: the preference, else the one that Blender ships."""
    override = str(getattr(preferences(context), "python", "")).strip()
    if override:
        return [bpy.path.abspath(override)]
    if Path(sys.executable).name.lower().startswith("python"):
        return [sys.executable]
    # Some builds report Blender's own program instead.
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    folder = Path(sys.prefix) / ("" if sys.platform == "win32" else "bin")
    names = ("python.exe",) if sys.platform == "win32" else (f"python{version}", "python3", "python")
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise UserError(
            "Blender's own Python was not found",
            where=str(folder),
            expected=" or ".join(names),
            found=sysconfig.get_platform(),
            remedy="Set 'Backend Python' in the add-on's preferences to a Python 3.11 or newer.",
        )
    return [str(found[0])]


def environ(context: bpy.types.Context) -> dict[str, str]:
    """What the preferences add to the backend's environment variables."""
    chosen = {"UNRENDER_HOME": "home", "UNRENDER_PYTHON": "python"}
    values = {name: str(getattr(preferences(context), key, "")).strip() for name, key in chosen.items()}
    return {name: bpy.path.abspath(value) for name, value in values.items() if value}
