# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs, repairs, tests and removes the backend that reconstructs: the buttons of the preferences."""

from typing import TYPE_CHECKING

import bpy
from bpy.props import BoolProperty

from ..backend.console import megabytes
from ..backend.errors import UserError
from . import follow, install_state

if TYPE_CHECKING:
    from .blender_context import OperatorResult


class UNRENDER_OT_install(bpy.types.Operator):
    bl_idname = "unrender.install"
    bl_label = "Install"
    bl_description = (
        "Download PyTorch and the other packages that reconstruct: about 1 GB, "
        "with an NVIDIA GPU about 3 GB; then test them. Takes some minutes in the background. Needs no compiler"
    )
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        reason = _busy() or _not_ours() or install_state.why_no_download(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        return _start(self, context)


class UNRENDER_OT_repair(bpy.types.Operator):
    bl_idname = "unrender.repair"
    bl_label = "Repair"
    bl_description = (
        "Check the installation and test it, and make anew what fails. Takes half a minute if all is well, "
        "else as long as Install"
    )
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        reason = _busy() or _not_ours() or _in_use() or install_state.why_no_download(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        return _start(self, context, "--repair")


class UNRENDER_OT_self_test(bpy.types.Operator):
    bl_idname = "unrender.self_test"
    bl_label = "Self-Test"
    bl_description = (
        "Reconstruct a small ball in the background, to see that everything works. Takes half a minute, the first time "
        "longer: it also compiles what jobs need. Downloads nothing"
    )
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        reason = _busy()
        if not reason and install_state.state().status == "missing":
            reason = "The backend is not installed. Install it first."
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        return _start(self, context, "--test-only")


class UNRENDER_OT_stop_install(bpy.types.Operator):
    """Stop the installation. What is half installed is not used; installing again begins anew"""

    bl_idname = "unrender.stop_install"
    bl_label = "Stop Installing"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not install_state.can_stop():
            cls.poll_message_set("Nothing is being installed from here.")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        try:
            install_state.stop()
        except UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class UNRENDER_OT_remove_backend(bpy.types.Operator):
    bl_idname = "unrender.remove_backend"
    bl_label = "Remove"
    bl_description = (
        "Delete the backend's packages, compiled kernels and other installations from the disk. Jobs, results and "
        "preferences stay"
    )
    bl_options = {"INTERNAL"}

    only_others: BoolProperty(
        name="Only Others",
        description="Delete installations of another Python or another version of Unrender, and keep the present one",
        default=False,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        if getattr(properties, "only_others", False):
            return (
                "Delete installations that belong to another Python or another version of Unrender. A Blender that "
                "still uses one of them would have to install again"
            )
        return cls.bl_description

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        found = install_state.state()
        reason = _busy() or _not_ours() or _in_use()
        if not reason and found.status == "missing" and not found.others:
            reason = "The backend is not installed: there is nothing to remove."
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> "OperatorResult":
        assert context.window_manager is not None
        found = install_state.state()
        sizes = [found.others_size] if self.only_others else [found.size, found.others_size]
        known = [size for size in sizes if size is not None]
        return context.window_manager.invoke_confirm(
            self,
            event,
            title="Remove Other Installations" if self.only_others else "Remove the Backend",
            message=f"This frees {megabytes(sum(known))}." if len(known) == len(sizes) else "This frees some GB.",
            confirm_text="Remove",
            icon="WARNING",
        )

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        install_state.remove(self.only_others)
        return {"FINISHED"}


class UNRENDER_OT_open_install_log(bpy.types.Operator):
    """Open what the last installation or self-test said, in the system's text viewer. Worth adding to a bug report"""

    bl_idname = "unrender.open_install_log"
    bl_label = "Open Log"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        log = install_state.choices().log
        if not log.is_file():
            self.report({"WARNING"}, f"{log}: there is no log. Nothing was installed from Blender yet.")
            return {"CANCELLED"}
        try:
            bpy.ops.wm.path_open(filepath=str(log))
        except RuntimeError as error:
            self.report({"ERROR"}, f"{log}: cannot be opened ({str(error).strip()}). Open it in a text editor.")
            return {"CANCELLED"}
        return {"FINISHED"}


classes = (
    UNRENDER_OT_install,
    UNRENDER_OT_repair,
    UNRENDER_OT_self_test,
    UNRENDER_OT_stop_install,
    UNRENDER_OT_remove_backend,
    UNRENDER_OT_open_install_log,
)


def _start(operator: bpy.types.Operator, context: bpy.types.Context, *options: str) -> "OperatorResult":
    try:
        install_state.start(context, *options)
    except UserError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    return {"FINISHED"}


def _busy() -> str:
    status = install_state.state().status
    if status == "installing":
        return "It is being installed or tested. Wait for it, or stop it."
    return "It is being removed. Wait for it." if status == "removing" else ""


def _not_ours() -> str:
    if install_state.state().own_python:
        return "'Backend Python' names an interpreter of your own. Clear it to have the packages installed here."
    return ""


def _in_use() -> str:
    if any(watch.active for watch in follow.WATCHES.values()):
        return "A reconstruction is running with it. Wait for it, finish or stop it first."
    return ""
