# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes about jobs that outlive Blender (no bpy): one small file for each, so that several Blenders never write the
same one."""

import contextlib
import hashlib
import json
from pathlib import Path


def remember(register: Path, folder: Path) -> None:
    """Notes that a job is at work, for the next Blender. A folder that cannot be written costs only the reminder."""
    with contextlib.suppress(OSError):
        register.mkdir(parents=True, exist_ok=True)
        _note(register, folder).write_text(json.dumps({"folder": str(folder)}), encoding="utf-8")


def forget(register: Path, folder: Path) -> None:
    """Takes the note away, for the job has ended and was seen to."""
    with contextlib.suppress(OSError):
        _note(register, folder).unlink()


def remembered(register: Path) -> list[Path]:
    """The folders of jobs that were at work when a Blender last looked, as far as they still exist."""
    folders = []
    for note in sorted(register.glob("*.json")) if register.is_dir() else []:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            folders.append(Path(json.loads(note.read_text(encoding="utf-8"))["folder"]))
    return [folder for folder in folders if folder.is_dir()]


def _note(register: Path, folder: Path) -> Path:
    return register / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.json"
