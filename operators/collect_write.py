# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture folder that is written whole or not at all (no bpy).

Photographs go into a hidden folder first, which gets its name when all are there; then capture.json takes the place of
the one before in a single step. What the one before had written goes last.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..backend.capture import read_capture, write_capture_json
from ..backend.capture.capture_json import FILE_NAME
from ..backend.capture.model import Capture
from ..backend.errors import UserError

IMAGES = "unrender_views"  # a name that no folder of the artist's has: what was written here is removed again


class CaptureFolder:
    """Open it with `with`; without `commit` nothing of it stays.

    `ours`: the folder's capture.json is an earlier one of this scene and may be replaced.
    """

    def __init__(self, folder: Path, ours: bool) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.ours = ours
        self.made: list[Path] = []
        self.committed = False
        self.part = self.folder / f".{IMAGES}.part"

    def __enter__(self) -> "CaptureFolder":
        existing = self.folder / FILE_NAME
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError("not a folder", where=str(self.folder), remedy="Choose another folder for the capture.")
        if existing.exists() and not self.ours:
            raise UserError(
                "there is another capture already", where=str(existing), remedy="Choose another folder, or remove it."
            )
        missing = [self.folder, *self.folder.parents]
        self.made = [path for path in missing if not path.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder = self.folder.resolve()
            self.part = self.folder / f".{IMAGES}.part"
            shutil.rmtree(self.part, ignore_errors=True)
        except OSError as error:
            raise self._cannot_write(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self.part, ignore_errors=True)
        if not self.committed:
            for path in self.made:  # the deepest first, and only where nothing else has come to be in it
                try:
                    path.rmdir()
                except OSError:
                    break

    def commit(self, build: Callable[[Path], Capture]) -> Path:
        """Writes the capture that `build` makes, given the folder where the photographs now are; returns the file.

        The capture is read back as the backend reads it before it takes its place; raises UserError where that fails.
        """
        before = self._folders_of_before()
        images = self.folder / IMAGES
        number = 1
        while images.exists():
            number += 1
            images = self.folder / f"{IMAGES}_{number}"
        try:
            has_images = self.part.is_dir()
            if has_images:
                self.part.rename(images)
            try:
                capture = build(images)
                # In a folder beside, so that relative paths keep their meaning from one level deeper via "root".
                trial = self.part / "trial"
                read_capture(write_capture_json(capture, trial))
                path = write_capture_json(capture, self.folder)
            except BaseException:
                if has_images:
                    shutil.rmtree(images, ignore_errors=True)
                raise
        except OSError as error:
            raise self._cannot_write(error) from error
        self.committed = True
        used = {file for view in capture.views for file in (view.image, view.mask) if file is not None}
        for old in before:
            if not any(old in file.parents for file in used):
                shutil.rmtree(old, ignore_errors=True)
        return path

    def _folders_of_before(self) -> list[Path]:
        """Folders of photographs that the capture to be replaced had written here."""
        try:
            views = json.loads((self.folder / FILE_NAME).read_text(encoding="utf-8"))["views"]
            first = {str(view["image"]).split("/")[0] for view in views}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []
        return [self.folder / name for name in first if re.fullmatch(rf"{IMAGES}(_\d+)?", name)]

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(
            "cannot write the capture",
            where=str(self.folder),
            found=error.strerror or str(error),
            remedy="Choose a folder where you may write.",
        )
