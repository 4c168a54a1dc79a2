# SPDX-License-Identifier: GPL-3.0-or-later
"""What the last look at a scene's capture found. Kept in Python, so that looking changes nothing in the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ..backend.capture.model import Capture, View
from ..backend.errors import UserError
from . import preflight_thumbnail
from .blender_context import settings_of
from .collect_plan import Line, Plan
from .collect_region import region_bounds, region_of


@dataclass(frozen=True)
class Picture:
    """A view that can be looked at; `photo` is None while it is not written yet."""

    name: str
    photo: Path | None
    mask: Path | None


@dataclass(frozen=True)
class Report:
    """What the panel shows. `collected`: a capture with just this stands on disk."""

    summary: str
    lines: tuple[Line, ...]
    pictures: tuple[Picture, ...] = ()
    bounds: np.ndarray | None = None
    collected: bool = False


_reports: dict[int, Report] = {}


def report_of(scene: bpy.types.Scene) -> Report | None:
    """The last report about a scene, None where nobody looked since Blender started."""
    return _reports.get(scene.session_uid)


def show_plan(scene: bpy.types.Scene, plan: Plan) -> None:
    """What collecting would write."""
    pictures = tuple(Picture(view.name, view.photo, view.mask) for view in plan.views)
    _show(scene, Report(plan.summary(), plan.lines, pictures, plan.bounds))


def show_capture(scene: bpy.types.Scene, capture: Capture, lines: tuple[Line, ...] = ()) -> None:
    """A capture that stands on disk."""
    pictures = tuple(Picture(view.name, view.image, view.mask) for view in capture.views)
    test = len(capture.split("test"))
    held = f", {test} of them held out" if test else ""
    camera = capture.views[0].camera
    summary = f"{len(capture.views)} views of {camera.width} x {camera.height}{held}"
    notes = tuple(Line("WARNING", warning) for warning in capture.warnings)
    _show(scene, Report(summary, (*lines, *notes), pictures, capture.bounds, True))


def show_error(scene: bpy.types.Scene, text: str) -> None:
    """Nothing could be looked at."""
    _show(scene, Report("Nothing to collect", (Line("ERROR", text),)))


def region_differs(scene: bpy.types.Scene, bounds: np.ndarray | None) -> bool:
    """Whether the scene's region is another than the `bounds` of its capture, where the scene shows that capture."""
    settings = settings_of(scene)
    if not settings.capture or settings.collect.placed != settings.capture:
        return False
    region = region_of(scene)
    try:
        now = None if region is None else region_bounds(region)
    except UserError:
        return False
    if now is None or bounds is None:
        return (now is None) != (bounds is None)
    return not np.allclose(now, bounds, rtol=1e-4, atol=1e-4 * float(np.ptp(bounds)))


def cameras_differ(scene: bpy.types.Scene, views: Sequence[View]) -> bool:
    """Whether most of the visible cameras that stand for the `views` are elsewhere: the empty that they hang on was
    moved. A quarter turn of it may leave the region as it was."""
    places: dict[str, list[np.ndarray]] = {}
    for item in scene.objects:
        if item.type == "CAMERA" and "unrender_view" in item and item.visible_get():
            matrix = np.array(item.matrix_world, np.float64)
            places.setdefault(str(item["unrender_view"]), []).append(matrix[:3, 3])
    known = [(view.center, places[view.name]) for view in views if view.name in places]
    if not known:
        return False
    size = float(np.ptp([center for center, _ in known], axis=0).max())
    near = 1e-3 * max(size, 1e-6)
    moved = [all(float(np.linalg.norm(place - center)) > near for place in found) for center, found in known]
    return 2 * sum(moved) > len(moved)


def shown_picture(scene: bpy.types.Scene, report: Report) -> Picture | None:
    """The view that the panel's arrows stand at."""
    if not report.pictures:
        return None
    return report.pictures[settings_of(scene).collect.shown % len(report.pictures)]


def load_shown(scene: bpy.types.Scene) -> None:
    """Makes the thumbnail of the shown view. Not while drawing: Blender allows no loading there."""
    report = report_of(scene)
    picture = shown_picture(scene, report) if report else None
    if picture is not None and picture.photo is not None:
        preflight_thumbnail.load(picture.photo, picture.mask)


def icon_of(picture: Picture) -> int:
    """The icon of a view's thumbnail, 0 where there is none."""
    return preflight_thumbnail.icon(picture.photo, picture.mask) if picture.photo is not None else 0


def _show(scene: bpy.types.Scene, report: Report) -> None:
    _reports[scene.session_uid] = report
    load_shown(scene)


def register() -> None:
    preflight_thumbnail.register()


def unregister() -> None:
    _reports.clear()
    preflight_thumbnail.unregister()
