# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructions that wait for their turn, one small file each, so that any Blender finds them again (no bpy)."""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..backend.errors import UserError

TAKEN_SECONDS = 30.0  # after which what somebody took and did not start counts as waiting again


@dataclass(frozen=True)
class Entry:
    """One reconstruction to be started."""

    capture: str
    folder: str  # of the job
    options: tuple[str, ...] = ()
    import_wanted: bool = True
    order: float = 0.0  # the smallest is next
    name: str = ""  # of its file


def entries(queue: Path) -> list[Entry]:
    """What waits, the next one first. Damaged files are left out."""
    found = []
    for path in _paths(queue):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            options = tuple(str(option) for option in values["options"])
            folder, capture = str(values["folder"]), str(values["capture"])
            order = float(values["order"])
            found.append(Entry(capture, folder, options, bool(values["import_wanted"]), order, path.stem))
    return sorted(found, key=lambda entry: (entry.order, entry.name))


def add(queue: Path, entry: Entry) -> Entry:
    """Puts a reconstruction at the end. Raises UserError where it cannot be written down."""
    waiting = entries(queue)
    order = waiting[-1].order + 1.0 if waiting else 0.0
    entry = replace(entry, order=order, name=uuid.uuid4().hex)
    _write(queue, entry)
    return entry


def move(queue: Path, entry: Entry, up: bool) -> None:
    """Changes places with the one before it or after it, if there is one."""
    waiting = entries(queue)
    place = next((i for i, other in enumerate(waiting) if other.name == entry.name), -1)
    other = place - 1 if up else place + 1
    if place < 0 or not 0 <= other < len(waiting):
        return
    waiting[place], waiting[other] = waiting[other], waiting[place]
    for number, changed in enumerate(waiting):
        if changed.order != number:
            _write(queue, replace(changed, order=float(number)))


def remove(queue: Path, entry: Entry) -> None:
    """Takes a reconstruction out."""
    with contextlib.suppress(FileNotFoundError):
        (queue / f"{entry.name}.json").unlink()


def take(queue: Path, entry: Entry) -> bool:
    """Claims a reconstruction to start it; False if another Blender was faster. `remove_taken` when it is started."""
    try:
        os.rename(queue / f"{entry.name}.json", path := queue / f"{entry.name}.taken")
        os.utime(path)
    except OSError:
        return False
    return True


def remove_taken(queue: Path, entry: Entry) -> None:
    """Forgets a reconstruction that was taken."""
    with contextlib.suppress(OSError):
        (queue / f"{entry.name}.taken").unlink()


def _paths(queue: Path) -> Sequence[Path]:
    """The files of what waits; what a Blender took just before it crashed is put back."""
    if not queue.is_dir():
        return ()
    for path in queue.glob("*.taken"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > TAKEN_SECONDS:
                os.rename(path, path.with_suffix(".json"))
    return sorted(queue.glob("*.json"))


def _write(queue: Path, entry: Entry) -> None:
    path = queue / f"{entry.name}.json"
    part = path.with_suffix(".part")
    try:
        queue.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(entry)), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            "cannot write the queue down",
            where=str(queue),
            found=error.strerror or str(error),
            remedy="Make room there, or wait until the running reconstruction has ended.",
        ) from error
