# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a stage that can be watched, paused and stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from ..appearance.material import MaterialField
from ..errors import Stopped
from .losses import psnr
from .preview import Previews

REPORT_SECONDS = 0.5
KEEP_SECONDS = 60.0


class JobLike(Protocol):
    """The part of `backend.job.Job` that a stage talks to."""

    def report(self, stage: str, step: int, steps: int, psnr: float | None = None) -> None: ...

    def warning(self, message: str) -> None: ...

    def should_stop(self) -> bool:
        """Wait while the job is paused; raise Stopped when it was stopped."""

    @property
    def finish_requested(self) -> bool: ...


class StageProgress:
    """Reports one stage of a job.

    Args:
        job: where reports go and requests come from.
        stage: its name, as the artist reads it.
        previews: where the stage shows its mesh.
        first: number of the first step, where an earlier run did those before it.
        keep: writes a checkpoint of the state before a given step; called every minute and when the stage is cut short.
    """

    def __init__(
        self,
        job: JobLike,
        stage: str,
        previews: Previews | None = None,
        first: int = 0,
        keep: Callable[[int], None] | None = None,
    ) -> None:
        self._job = job
        self._previews = previews
        self._stage = stage
        self._keep = keep or (lambda step: None)
        self._squared_error: Tensor | None = None
        self.first = first
        self.steps_done = first

    def steps(self, count: int) -> Iterator[int]:
        """Step numbers `first` … count − 1; ends early when the artist asks to finish now.

        Raises:
            Stopped: the user stopped the job.
        """
        reported = kept = time.perf_counter()
        for step in range(self.first, count):
            try:
                self._job.should_stop()
            except Stopped:
                self._keep(step)
                raise
            if self._job.finish_requested:
                self._keep(step)
                break
            yield step
            self.steps_done = step + 1
            now = time.perf_counter()
            if now - reported > REPORT_SECONDS or step + 1 == count:
                reported = now
                self._job.report(self._stage, self.steps_done, count, self.psnr())
            if now - kept > KEEP_SECONDS:
                kept = now
                self._keep(self.steps_done)

    def heed(self) -> None:
        """Within a long step: wait while the job is paused.

        Raises:
            Stopped: the user stopped the job.
        """
        self._job.should_stop()

    def observe_error(self, squared: Tensor) -> None:
        """Take note of a step's squared errors, of any shape, for the running PSNR."""
        error = squared.mean()
        self._squared_error = error if self._squared_error is None else self._squared_error.lerp(error, 0.05)

    def warning(self, message: str) -> None:
        """Tell the artist of something odd."""
        self._job.warning(message)

    def show(self, vertices: Tensor, triangles: Tensor, material: MaterialField) -> None:
        """Let the artist see the mesh of this step, now and then; arguments as `Previews.show` has them."""
        if self._previews is not None:
            self._previews.show(vertices, triangles, material)

    def psnr(self) -> float | None:
        """Running PSNR of the training views in dB, or None before the first step."""
        return None if self._squared_error is None else psnr(float(self._squared_error))
