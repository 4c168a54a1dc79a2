# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's installation in the preferences: its state, its size, and the buttons that change it."""

from typing import TYPE_CHECKING

import bpy

from ..backend.console import megabytes
from ..operators import install_state
from ..operators.install_backend import (
    UNRENDER_OT_install,
    UNRENDER_OT_open_install_log,
    UNRENDER_OT_remove_backend,
    UNRENDER_OT_repair,
    UNRENDER_OT_self_test,
    UNRENDER_OT_stop_install,
)
from ..operators.install_state import State
from ..operators.job_text import time_left
from .wrapped_text import draw_text

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

STATUS_TEXT = {
    "checking": "looking for it…",
    "missing": "not installed",
    "installing": "installing",
    "untested": "installed, not tested yet",
    "ready": "ready",
    "broken": "broken",
    "removing": "removing…",
}
STATUS_ICON: dict[str, "IconItems"] = {
    "missing": "IMPORT",
    "untested": "QUESTION",
    "ready": "CHECKMARK",
    "broken": "ERROR",
}


def draw_backend(layout: bpy.types.UILayout, context: bpy.types.Context, width: float) -> None:
    """State, figures and buttons. `width`: of the region, in points."""
    install_state.glance()
    state = install_state.state()
    box = layout.box()
    box.label(text=headline(state), icon=STATUS_ICON.get(state.status, "INFO"))
    if state.status == "installing":
        _draw_progress(box, state)
        return
    if state.status == "removing":
        return
    if reason := install_state.failure() or state.reason:
        draw_text(box, reason, width)
    if state.note:
        draw_text(box, state.note, width, icon="INFO")
    if state.status != "ready" and not state.own_python and (refusal := install_state.why_no_download(context)):
        draw_text(box, refusal, width, icon="INTERNET_OFFLINE")
    if state.status not in ("missing", "checking") and state.folder is not None:
        size = "…" if state.size is None else megabytes(state.size)
        place = str(state.folder) if state.own_python else f"{size} on the disk, in {state.folder}"
        draw_text(box, place, width, icon="DISK_DRIVE")
    _draw_buttons(box, state)
    if state.others:
        row = box.row()
        size = "" if state.others_size is None else f", {megabytes(state.others_size)}"
        row.label(text=f"Other installations: {len(state.others)}{size}", icon="TRASH")
        row.operator(UNRENDER_OT_remove_backend.bl_idname, text="Remove Others").only_others = True


def headline(state: State) -> str:
    """The state in one line."""
    text = f"Backend: {'testing' if state.testing else STATUS_TEXT[state.status]}"
    if state.status != "ready":
        return text
    if state.device in ("", "cpu"):
        return f"{text}, without a GPU"
    # Cards are sold by binary gigabytes.
    memory = f", {state.memory / 2**30:.0f} GB" if state.memory else ""
    return f"{text}, {state.device}{memory}"


def _draw_progress(layout: bpy.types.UILayout, state: State) -> None:
    left = "" if state.seconds_left is None else f", {time_left(state.seconds_left)} left"
    layout.progress(factor=state.fraction, type="BAR", text=f"{state.fraction:.0%}{left}")
    layout.label(text=state.text[:1].upper() + state.text[1:])
    row = layout.row()
    row.operator(UNRENDER_OT_stop_install.bl_idname, text="Stop", icon="X")
    row.operator(UNRENDER_OT_open_install_log.bl_idname, icon="TEXT")


def _draw_buttons(layout: bpy.types.UILayout, state: State) -> None:
    row = layout.row()
    if state.status == "missing":
        row.scale_y = 1.5
        row.operator(UNRENDER_OT_install.bl_idname, icon="IMPORT")
        row.operator(UNRENDER_OT_open_install_log.bl_idname, icon="TEXT")
        return
    row.operator(UNRENDER_OT_self_test.bl_idname, icon="PLAY")
    if not state.own_python:
        row.operator(UNRENDER_OT_repair.bl_idname, icon="TOOL_SETTINGS")
        row.operator(UNRENDER_OT_remove_backend.bl_idname, icon="TRASH").only_others = False
    row.operator(UNRENDER_OT_open_install_log.bl_idname, icon="TEXT")
