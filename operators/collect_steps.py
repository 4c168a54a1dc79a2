# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that work step by step: with progress and Esc in a window, straight through in the background."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import bpy

from ..backend.errors import UserError

if TYPE_CHECKING:
    from .blender_context import OperatorResult

Steps = Generator[tuple[int, int, str], None, str]
"""Yields how many steps are done, of how many, and what comes next; returns what to say at the end. Closing it must
undo everything: its `finally` and `with` blocks do."""

TICK_SECONDS = 0.01


class SteppedOperator:
    """Beside bpy.types.Operator in a class's bases; the class gives `steps`."""

    def steps(self, context: bpy.types.Context) -> Steps:
        """The work; raises UserError."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        """Straight through: scripts, and Blender without a window."""
        try:
            steps = self.steps(context)
            while True:
                next(steps)
        except StopIteration as end:
            return self._finished(end.value)
        except UserError as error:
            return self._failed(error)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> "OperatorResult":
        if bpy.app.background or context.window is None:
            return self.execute(context)
        manager = context.window_manager
        self._steps = self.steps(context)
        self._timer = manager.event_timer_add(TICK_SECONDS, window=context.window)
        manager.progress_begin(0, 1000)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> "OperatorResult":
        if event.type == "ESC":
            self._steps.close()
            self._end(context)
            self._report({"WARNING"}, "Cancelled; nothing was written")
            return {"CANCELLED"}
        if event.type != "TIMER":
            return {"RUNNING_MODAL"}  # nothing may change under the work
        try:
            done, total, text = next(self._steps)
        except StopIteration as end:
            self._end(context)
            return self._finished(end.value)
        except UserError as error:
            self._end(context)
            return self._failed(error)
        except BaseException:
            self._end(context)
            raise
        context.window_manager.progress_update(1000 * done // max(1, total))
        if context.workspace is not None:
            context.workspace.status_text_set(f"{text} ({done + 1} of {total})   Esc: cancel")
        return {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator: another file is loaded, or Blender quits."""
        self._steps.close()
        self._end(context)

    def _end(self, context: bpy.types.Context) -> None:
        manager = context.window_manager
        manager.event_timer_remove(self._timer)
        manager.progress_end()
        if context.workspace is not None:
            context.workspace.status_text_set(None)

    def _finished(self, text: str) -> "OperatorResult":
        self._report({"INFO"}, text)
        return {"FINISHED"}

    def _failed(self, error: UserError) -> "OperatorResult":
        self._report({"ERROR"}, str(error))
        return {"CANCELLED"}

    def _report(self, kind: set[str], text: str) -> None:
        operator: Any = self
        operator.report(kind, text)
