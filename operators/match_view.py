# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows renders in the photographs' colors: the Standard view transform with nothing else on top.

Blender's default, AgX, darkens and desaturates what a photograph has: a render of the very same colors looks different.
"""

from typing import TYPE_CHECKING, Any

import bpy

from ..backend.errors import UserError
from .blender_context import scene_of

if TYPE_CHECKING:
    from .blender_context import OperatorResult

BEFORE_KEY = "unrender_view_before"  # on the scene: what the settings were

# In this order: which looks there are depends on the view transform.
NEUTRAL: dict[str, str | float | bool] = {
    "view_transform": "Standard",
    "look": "None",
    "exposure": 0.0,
    "gamma": 1.0,
    "use_curve_mapping": False,
    "use_white_balance": False,
    "film_exposure": 1.0,
}


def matches(scene: bpy.types.Scene) -> bool:
    """Whether a render has the photographs' colors now."""
    return all(value == NEUTRAL[key] for key, value in _read(scene).items())


def can_go_back(scene: bpy.types.Scene) -> bool:
    """Whether the settings from before are known."""
    return BEFORE_KEY in scene


def match(scene: bpy.types.Scene) -> None:
    """Sets everything neutral and remembers what it was. Raises UserError where the color configuration has no
    Standard view transform."""
    if matches(scene):
        return
    before = _read(scene)
    try:
        _write(scene, NEUTRAL)
    except TypeError as error:  # how Blender refuses an unknown item of an enumeration
        _write(scene, before)
        raise UserError(
            "cannot match the photographs",
            where="Color Management",
            expected="a view transform named Standard and no look",
            found=str(error).strip(),
            remedy="Use Blender's own color configuration.",
        ) from error
    scene[BEFORE_KEY] = before


def go_back(scene: bpy.types.Scene) -> None:
    """Sets what was there before `match`."""
    before: Any = scene[BEFORE_KEY]
    _write(scene, before.to_dict())
    del scene[BEFORE_KEY]


def _owner(scene: bpy.types.Scene, key: str) -> Any:
    """Who has the setting. None for Cycles' while it is disabled."""
    return getattr(scene, "cycles", None) if key == "film_exposure" else scene.view_settings


def _read(scene: bpy.types.Scene) -> dict[str, str | float | bool]:
    owners = {key: _owner(scene, key) for key in NEUTRAL}
    return {key: getattr(owner, key) for key, owner in owners.items() if owner is not None}


def _write(scene: bpy.types.Scene, values: dict[str, str | float | bool]) -> None:
    for key in NEUTRAL:
        owner = _owner(scene, key)
        if owner is not None and key in values:
            kind = type(NEUTRAL[key])  # a custom property may have made a number of True
            setattr(owner, key, kind(values[key]))


class UNRENDER_OT_match_view(bpy.types.Operator):
    """Show renders in the photographs' colors: Standard view transform, no look, neutral exposure, gamma and curves.
    Changes only how this scene is shown; a second click brings the settings back that you had"""

    bl_idname = "unrender.match_view"
    bl_label = "Match the Photographs"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        scene = scene_of(context)
        if not matches(scene):
            try:
                match(scene)
            except UserError as error:
                self.report({"ERROR"}, str(error))
                return {"CANCELLED"}
        elif can_go_back(scene):
            go_back(scene)
        else:
            self.report({"INFO"}, "The scene shows the photographs' colors already.")
            return {"CANCELLED"}
        return {"FINISHED"}
