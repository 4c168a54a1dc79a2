# SPDX-License-Identifier: GPL-3.0-or-later
"""Where processes of the backend find their program: in a copy outside the extension's folder (no bpy).

Blender takes that folder away when the extension is upgraded or uninstalled, and on Windows cannot while a process
stands in it. With a copy of its own, a job goes on with the version that it was started with.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTENT = ("blender_manifest.toml", "backend")
KEPT_SECONDS = 30 * 86400.0  # after its last start; a copy takes about 1 MB


def copies(base: Path) -> Path:
    """The folder of all copies."""
    return base / "programs"


def program(base: Path) -> Path:
    """The folder from which `python -m backend` starts: a copy under `base`, made where it is missing or damaged.

    Where nothing can be written it is the extension's own folder, which serves as long as nobody upgrades it.
    """
    parent = copies(base)
    digest = _digest(ROOT)
    target = parent / digest
    try:
        if _digest(target) != digest:
            _copy(target)
        os.utime(target)
        _sweep(parent)
        return target if _digest(target) == digest else ROOT
    except OSError:
        return ROOT


def _files(root: Path) -> Iterator[Path]:
    for name in CONTENT:
        for folder, folders, names in os.walk(root / name):
            folders[:] = sorted(found for found in folders if found != "__pycache__" and not found.startswith("."))
            yield from (Path(folder, found) for found in sorted(names) if not found.startswith("."))
        if (root / name).is_file():
            yield root / name


def _digest(root: Path) -> str:
    """A name for just these files."""
    found = hashlib.sha256()
    for path in _files(root):
        content = path.read_bytes()
        found.update(f"{path.relative_to(root).as_posix()}\n{len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()[:16]


def _copy(target: Path) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for path in _files(ROOT):
            copy = part / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):  # another Blender was faster
            os.rename(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Removes copies that nobody has started for long."""
    oldest = time.time() - KEPT_SECONDS
    for path in parent.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path)
