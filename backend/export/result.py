# SPDX-License-Identifier: GPL-3.0-or-later
"""The result folder: written whole or not at all, and read back.

asset.glb  textures/{name}_BaseColor.png, _ORM.png, _Normal.png  environment.exr
cameras.json  report.json  contact_sheet.png
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import shutil
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .asset import Asset
from .gltf import encode_glb, read_glb
from .textures import encode_textures, read_exr, write_exr

if TYPE_CHECKING:
    from ..capture.model import View

ASSET, ENVIRONMENT, CAMERAS, REPORT, SHEET = (
    "asset.glb",
    "environment.exr",
    "cameras.json",
    "report.json",
    "contact_sheet.png",
)
CAMERA_CONVENTION = (
    "cam_to_world: 4x4, row-major, OpenGL axes (x right, y up, looking along -z), Z-up world; "
    "fx fy cx cy: pixels, origin at the top left corner of the image, pixel centers at +0.5"
)
RIGHTS = (
    "The rights in this asset are those in the photographs it was made from; "
    "the licence of Unrender, GPL-3.0-or-later, does not extend to it."
)
PACKAGES = ("torch", "warp-lang", "numpy", "pillow", "OpenEXR", "trimesh", "scipy", "nvdiffrast")


def write_result(
    folder: Path,
    asset: Asset,
    cameras: Sequence[View],
    report: Mapping[str, Any],
    sheet: Image.Image | None = None,
) -> Path:
    """Write a result folder and return its path.

    Everything goes into a hidden folder beside `folder`, which takes its place only when complete: a reader sees the
    old result or the new one. What an earlier crash left behind is put back or removed first.
    `cameras` are the refined views. To `report` come, where it does not have them: "inputs" (SHA-256 of every image),
    "versions", "asset" (counts), and to its "provenance" the tool, the date and the rights. "copyright" and
    "provenance" also go into asset.glb.

    Raises UserError where the folder cannot be written or the disk is full; an existing result then stays as it was.
    """
    folder = Path(os.path.abspath(folder))
    new, old = _sibling(folder, "new"), _sibling(folder, "old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        recover(folder)
        _refuse_other_folders(folder)
        new.mkdir()
        _fill(new, asset, cameras, report, sheet)
        _flush(new)
        if folder.exists():
            _patiently(lambda: folder.rename(old))
        try:
            _patiently(lambda: new.rename(folder))
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def read_result(folder: Path) -> Asset:
    """The asset of a result folder, or of the job folder around it. Raises UserError where there is none."""
    folder = find_result(folder)
    fields, environment = read_glb(folder / ASSET), read_exr(folder / ENVIRONMENT)
    try:
        return Asset(**fields, environment=environment)
    except AssertionError as error:
        raise UserError(
            what="this result is damaged",
            where=str(folder),
            expected="a mesh, textures and light that fit each other",
            found=str(error),
            remedy="Write the result again.",
        ) from error


def find_result(folder: Path) -> Path:
    """`folder` if it is a result folder, its `result` if it is a job folder. Raises UserError otherwise."""
    for candidate in (folder, folder / "result"):
        if (candidate / ASSET).is_file():
            return candidate
    if not folder.is_dir():
        found = "no such folder" if not folder.exists() else "a file"
    else:
        found = "a job without a result" if (folder / "events.jsonl").exists() else f"no {ASSET} in it"
    raise UserError(
        what="this is no result",
        where=str(folder),
        expected=f"a result folder with {ASSET}, or the job folder around it",
        found=found,
        remedy="Finish the reconstruction first, or name its --out folder.",
    )


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of a result or job folder. Raises UserError where it is missing or damaged."""
    path = find_result(folder) / REPORT
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            what="cannot read the report", where=str(path), expected="a JSON file", found=str(error)
        ) from error


def update_report(folder: Path, changes: Mapping[str, Any]) -> None:
    """Merge `changes` into the report of a finished result (metrics that were measured on it, for one).

    Raises UserError where the report cannot be read or replaced.
    """
    report = read_report(folder) | dict(changes)
    path = find_result(folder) / REPORT
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_text(_json(report), encoding="utf-8")
        _patiently(lambda: draft.replace(path))
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def recover(folder: Path) -> None:
    """Clean up after a writer that died: finish its interrupted exchange, remove what it left half done."""
    old, new = _sibling(folder, "old"), _sibling(folder, "new")
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    for leftover in (old, new):
        if leftover.is_dir():
            shutil.rmtree(leftover)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_inputs(views: Iterable[View], root: Path | None = None) -> dict[str, str | None]:
    """SHA-256 of each view's image and mask, by path relative to `root`; None for a file that is gone."""
    paths = [path for view in views for path in (view.image, view.mask) if path is not None]
    return {_relative(path, root): sha256(path) if path.is_file() else None for path in dict.fromkeys(paths)}


def versions() -> dict[str, str]:
    """What the result was made with: Unrender, Python, the system and the packages that shape it."""
    found = {"unrender": unrender_version(), "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def unrender_version() -> str:
    """The version in the extension's manifest; "unknown" where the backend stands without it."""
    manifest = Path(__file__).parents[2] / "blender_manifest.toml"
    try:
        return str(tomllib.loads(manifest.read_text(encoding="utf-8"))["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return "unknown"


def camera_entries(views: Iterable[View], root: Path | None = None) -> list[dict[str, Any]]:
    """The views as cameras.json has them."""
    entries = []
    for view in views:
        camera = view.camera
        entry: dict[str, Any] = {
            "name": view.name,
            "image": _relative(view.image, root),
            "split": view.split,
            "width": camera.width,
            "height": camera.height,
            "fx": camera.fx,
            "fy": camera.fy,
            "cx": camera.cx,
            "cy": camera.cy,
            "cam_to_world": np.asarray(view.cam_to_world, np.float64).tolist(),
            "exposure": view.exposure,
        }
        if camera.distortion:
            entry["distortion"] = list(camera.distortion)
        entries.append(entry)
    return entries


def _fill(
    folder: Path,
    asset: Asset,
    cameras: Sequence[View],
    report: Mapping[str, Any],
    sheet: Image.Image | None,
) -> None:
    version = unrender_version()
    generator = "Unrender" if version == "unknown" else f"Unrender {version}"
    root = _common_root(cameras)
    report = {
        "versions": versions(),
        "asset": {
            "name": asset.name,
            "vertices": len(asset.vertices),
            "triangles": len(asset.triangles),
            "texture": list(asset.base_color.shape[:2]),
            "environment": list(asset.environment.shape[:2]),
        },
    } | dict(report)
    given = report.get("provenance", {})
    report["provenance"] = {
        "tool": generator,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "photographs": len(cameras),
        "rights": RIGHTS,
    } | (dict(given) if isinstance(given, Mapping) else {"note": given})
    if "inputs" not in report:
        report["inputs"] = hash_inputs(cameras, root)
    textures = encode_textures(asset)
    file = encode_glb(
        asset,
        textures,
        generator=generator,
        copyright=str(report.get("copyright", "")),
        provenance=_plain(report["provenance"]),
    )
    (folder / ASSET).write_bytes(file)
    (folder / "textures").mkdir()
    for name, data in textures.items():
        (folder / "textures" / f"{asset.name}_{name}.png").write_bytes(data)
    write_exr(folder / ENVIRONMENT, asset.environment)
    entries = camera_entries(cameras, root)
    document = {"version": 1, "convention": CAMERA_CONVENTION, "images": str(root or ""), "views": entries}
    (folder / CAMERAS).write_text(_json(document), encoding="utf-8")
    (folder / REPORT).write_text(_json(report), encoding="utf-8")
    if sheet is not None:
        stream = io.BytesIO()
        sheet.save(stream, "PNG")
        (folder / SHEET).write_bytes(stream.getvalue())


def _sibling(folder: Path, role: str) -> Path:
    return folder.with_name(f".{folder.name}.{role}")


def _refuse_other_folders(folder: Path) -> None:
    """A folder that is not an earlier result must not be replaced: it would be deleted with all that stands in it."""
    if not folder.exists() or (folder / ASSET).is_file():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    raise UserError(
        what="something else stands where the result goes",
        where=str(folder),
        expected="nothing, an empty folder or an earlier result",
        found="a folder with other files" if folder.is_dir() else "a file",
        remedy="Move it away or choose another folder.",
    )


def _flush(folder: Path) -> None:
    """Force the files to disk, so that the rename which follows never outlives their contents in a power cut."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _patiently(action: Callable[[], object]) -> None:
    """Windows refuses to rename what a virus scanner or a viewer holds open for a moment."""
    for wait in (0.1, 0.2, 0.4, 0.8):
        try:
            action()
            return
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(wait)
    action()


def _unwritable(path: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else error.errno == errno.ENOSPC
    remedy = "Free some space" if full else "Close programs that have it open, check its permissions"
    return UserError(
        what="cannot write the result",
        where=str(path),
        expected="a writable folder on a disk with space left",
        found=error.strerror or str(error),
        remedy=f"{remedy} or choose another folder, then resume; the checkpoint is kept.",
    )


def _common_root(views: Sequence[View]) -> Path | None:
    """The deepest folder that holds every image."""
    folders = [os.path.abspath(view.image.parent) for view in views]
    try:
        return Path(os.path.commonpath(folders)) if folders else None
    except ValueError:  # images on several Windows drives
        return None


def _relative(path: Path, root: Path | None) -> str:
    path = Path(os.path.abspath(path))
    return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else path.as_posix()


def _json(document: Any) -> str:
    return json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """What JSON can hold: arrays become lists, paths strings, and numbers that are none (NaN, ∞) null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
