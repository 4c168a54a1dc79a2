# SPDX-License-Identifier: GPL-3.0-or-later
"""Solid viewports show the preview's colors while it is there, and afterwards what the artist had chosen.

Which color Solid shading shows is a setting of each viewport, "Material" in a new file: the preview would be gray.
"""

from collections.abc import Iterator
from typing import Any

import bpy

from .blender_context import windows

_before: dict[str, str] = {}  # screen and place of the viewport -> what its Solid shading showed


def switch_on(scene: bpy.types.Scene) -> None:
    """Shows color attributes in the viewports of a scene."""
    for key, shading in _viewports(scene):
        if key not in _before and shading.color_type != "VERTEX":
            _before[key] = shading.color_type
            shading.color_type = "VERTEX"


def switch_back() -> None:
    """Shows again what was shown, where the artist has not chosen otherwise since."""
    for key, shading in _viewports() if _before else ():
        if key in _before and shading.color_type == "VERTEX":
            shading.color_type = _before[key]
    _before.clear()


def forget() -> None:
    """After another file was loaded: its viewports are others."""
    _before.clear()


def _viewports(scene: bpy.types.Scene | None = None) -> Iterator[tuple[str, Any]]:
    """Every 3D viewport's shading, with a name for the viewport that holds as long as the file is open."""
    for window in windows():
        if scene is not None and window.scene != scene:
            continue
        for number, area in enumerate(window.screen.areas):
            for space in area.spaces:
                if isinstance(space, bpy.types.SpaceView3D):
                    yield f"{window.screen.name}/{number}", space.shading
