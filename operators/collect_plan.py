# SPDX-License-Identifier: GPL-3.0-or-later
"""What a collected capture will hold, before anything is written (no bpy)."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..backend.capture.checks import FEWEST_VIEWS, count, enumerated
from ..backend.capture.image_header import read_image_header
from ..backend.capture.model import Camera
from ..backend.errors import UserError
from .collect_lens import TrackingLens

Level = Literal["ERROR", "WARNING", "INFO"]
MANY_VIEWS = 20  # below this, published reconstructions fall off quickly


@dataclass(frozen=True)
class Line:
    """One finding for the artist. ERROR: what it is about is left out, or nothing can be collected at all."""

    level: Level
    text: str


@dataclass(frozen=True)
class Pixels:
    """Pixels that no image file on disk holds, to be written when collecting."""

    kind: Literal["PACKED", "CONVERT", "MOVIE"]
    datablock: Any  # the bpy.types.Image, or the MovieClip
    path: Path  # of the movie or the picture, for its name
    frame: int = 0  # of the movie, counted from 1


@dataclass(frozen=True)
class PlannedView:
    """One photograph-to-be of the capture."""

    name: str
    origin: str  # the camera it was found at
    camera: Camera  # of the photograph as it is, with OpenCV's coefficients
    pose: np.ndarray  # [4, 4] float64, OpenGL axes
    photo: Path | None = None  # the file to refer to; else `pixels` are written
    pixels: Pixels | None = None
    lens: TrackingLens | None = None  # a lens that OpenCV's coefficients cannot express: taken out when writing
    mask: Path | None = None
    split: str = "train"
    exposure: float | None = None

    @property
    def stem(self) -> str:
        """The photograph's name without suffix, as masks are matched by."""
        path = self.photo or (self.pixels.path if self.pixels else Path(self.name))
        return f"{path.stem}_{self.pixels.frame:04d}" if self.pixels and self.pixels.kind == "MOVIE" else path.stem

    @property
    def has_alpha(self) -> bool:
        """Whether its file has an alpha channel, which may or may not hide anything."""
        if self.photo is None:
            return False
        try:
            return read_image_header(self.photo).alpha
        except UserError:
            return False


@dataclass
class Findings:
    """Collects what is found; what is true of several views becomes one line that names them."""

    lines: list[Line] = field(default_factory=list)
    grouped: dict[tuple[Level, str], list[str]] = field(default_factory=dict)

    def add(self, level: Level, text: str) -> None:
        """A line of its own."""
        self.lines.append(Line(level, text))

    def about(self, level: Level, text: str, name: str) -> None:
        """`text` is true of the view or camera `name`."""
        self.grouped.setdefault((level, text), []).append(name)

    def sorted(self) -> tuple[Line, ...]:
        """All lines, the gravest first."""
        groups = [Line(level, f"{enumerated(names)}: {text}") for (level, text), names in self.grouped.items()]
        order = ("ERROR", "WARNING", "INFO")
        return tuple(sorted((*self.lines, *groups), key=lambda line: order.index(line.level)))


@dataclass(frozen=True)
class Plan:
    """The views, the region [2, 3] and what the artist should know."""

    views: tuple[PlannedView, ...]
    bounds: np.ndarray | None
    lines: tuple[Line, ...]

    @property
    def ready(self) -> bool:
        """Whether there is enough to write a capture that can be read."""
        return len(self.views) >= FEWEST_VIEWS

    @property
    def work(self) -> int:
        """How many photographs must be written, not only referred to."""
        return sum(view.photo is None or view.lens is not None for view in self.views)

    def summary(self) -> str:
        """The figures in one line."""
        sizes = Counter((view.camera.width, view.camera.height) for view in self.views)
        (width, height), _ = sizes.most_common(1)[0] if sizes else ((0, 0), 0)
        others = f" and {count(len(sizes) - 1, 'other size')}" if len(sizes) > 1 else ""
        return f"{count(len(self.views), 'view')} of {width} x {height}{others}" if sizes else "0 views"


def without_doubles(views: Iterable[PlannedView], findings: Findings) -> list[PlannedView]:
    """Each photograph once, each under a name of its own."""
    kept: list[PlannedView] = []
    taken: dict[object, str] = {}
    names: set[str] = set()
    for view in views:
        frame = view.pixels.frame if view.pixels else 0
        source = (str(view.photo or (view.pixels and view.pixels.path)), frame)
        if source in taken:
            findings.about("WARNING", "left out, its photograph is another camera's too", view.origin)
            continue
        taken[source] = view.name
        name, number = view.name, 1
        while name in names:
            number += 1
            name = f"{view.name}_{number}"
        names.add(name)
        kept.append(replace(view, name=name))
    return kept


def checked(views: Iterable[PlannedView], findings: Findings) -> list[PlannedView]:
    """The views whose files are there and fit each other; a line for each that is left out."""
    kept = []
    for view in views:
        try:
            if view.photo is not None:
                header = read_image_header(view.photo)
                if header.orientation in range(2, 9):
                    text = "its EXIF tag says rotated, which is ignored: pixels are taken as stored"
                    findings.about("WARNING", text, view.name)
            if view.mask is not None:
                mask = read_image_header(view.mask)
                if (mask.width, mask.height) != (view.camera.width, view.camera.height):
                    size = f"{view.camera.width} x {view.camera.height}"
                    text = f"left out, the mask has {mask.width} x {mask.height} pixels, the photograph {size}"
                    findings.about("ERROR", text, view.name)
                    continue
        except UserError as error:
            findings.add("ERROR", f"{view.name}: left out, {error}")
            continue
        kept.append(view)
    return kept


def figures(views: list[PlannedView], findings: Findings) -> None:
    """Lines about the whole: where views came from, masks, and whether there are enough."""
    origins = Counter(view.origin for view in views)
    still = sum(n == 1 for n in origins.values())
    if still:
        findings.add("INFO", f"{count(still, 'camera')} with one photograph each")
    for origin, n in origins.items():
        if n > 1:
            findings.add("INFO", f"{origin}: {n} frames of an animated camera")
    files = sum(view.mask is not None for view in views)
    alpha = sum(view.mask is None and view.has_alpha for view in views)
    without = [view.name for view in views if view.mask is None and not view.has_alpha]
    if files or alpha:
        parts = [f"{files} from files"] * bool(files) + [f"{alpha} from alpha channels"] * bool(alpha)
        findings.add("INFO", f"Masks: {', '.join(parts)}")
    if views and len(without) == len(views):
        findings.add("WARNING", "No masks: photographs need an alpha channel, or a folder of masks with the same names")
    elif without:
        findings.add("WARNING", f"No mask in {count(len(without), 'view')}: {enumerated(without)}")
    if len(views) < FEWEST_VIEWS:
        findings.add("ERROR", f"{count(len(views), 'view')}: a capture needs at least {FEWEST_VIEWS}")
    elif len(views) < MANY_VIEWS:
        findings.add("WARNING", f"{count(len(views), 'view')}: from {MANY_VIEWS} on, surfaces become reliable")
