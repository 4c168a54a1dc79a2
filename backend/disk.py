# SPDX-License-Identifier: GPL-3.0-or-later
"""What the managed environments take on the disk, and removing them.

Standard library only; Blender imports it too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .errors import UserError
from .processes import Claim

REMOVED = ".removed-"  # how the name of a folder begins that is being removed


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder, or of a file. What vanishes meanwhile does not count."""
    total, waiting = 0, [folder]
    while waiting:
        path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except NotADirectoryError:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def environments(base: Path, kind: str = "backend") -> list[Path]:
    """The environments of a kind that stand under `base`, whole or not, of any Python and any version of ours."""
    return sorted(path for path in (base / "environments").glob(f"{kind}-*") if path.is_dir())


def kernel_cache(base: Path) -> Path:
    """Where compiled kernels are kept."""
    return base / "cache" / "warp"


def remove(folders: Iterable[Path]) -> None:
    """Remove folders. Each is renamed first: what is half removed never looks whole.

    Raises:
        UserError: one is being made, is in use (on Windows), or is not ours to remove.
    """
    for folder in folders:
        if owner := Claim(folder.with_name(folder.name + ".lock")).owner():
            raise UserError(
                f"another process ({owner}) is installing it", where=str(folder), remedy="Wait for it, or stop it."
            )
        aside = folder.with_name(f"{REMOVED}{folder.name}-{os.getpid()}")
        try:
            if folder.is_symlink():
                folder.unlink()
            elif folder.is_dir():
                os.rename(folder, aside)
            _sweep(folder.parent)
        except OSError as error:
            raise UserError(
                f"cannot be removed ({error.strerror or error})",
                where=str(folder),
                remedy="End what uses it (a job, another Blender) and try again.",
            ) from error


def _sweep(parent: Path) -> None:
    """Remove what was set aside, also by a removal that was cut off."""
    for path in parent.glob(f"{REMOVED}*"):
        shutil.rmtree(path)
