# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of several solids the shape stage starts from: each is fitted coarsely for a moment, the photographs decide.

A radiance field opens cavities that no silhouette shows, but it also digs into what is shiny: a mirror image behind a
surface explains the photographs as well as the reflection does, until a material and a light are part of the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ..geometry.band import Grid
from .progress import JobLike, StageProgress
from .scene import Scene
from .settings import Settings
from .shape_stage import ShapeState, run_shape_stage

CELLS, STEPS, SIZE = 80, 100, 200  # of the fit: of its grid, of its optimiser, of its images (pixels)
BETTER = 0.95  # of the first solid's error, from which on another one is preferred


def choose_start(
    scene: Scene, grid: Grid, solids: Sequence[Tensor], settings: Settings, job: JobLike, tell: Callable[[float], None]
) -> Tensor:
    """The solid whose fit comes nearest to the photographs; the first, unless another is clearly better.

    Args:
        solids: signed distances [X, Y, Z] on `grid`, world units.
        tell: hears the share that is done.

    Raises:
        Stopped: the user stopped the job.
    """
    coarse = Grid.around(scene.bounds, min(CELLS, settings.grid_cells))
    brief = replace(
        settings,
        grid_cells=min(CELLS, settings.grid_cells),
        shape_steps=STEPS,
        shape_size=min(SIZE, settings.shape_size),
    )
    errors = []
    for number, solid in enumerate(solids):
        tell(number / len(solids))
        trial = _Trial(job)
        state = ShapeState.start(scene, brief, resampled(solid, grid, coarse))
        run_shape_stage(state, scene, brief, trial)
        errors.append(trial.error())
    tell(1.0)
    best = min(range(len(solids)), key=errors.__getitem__)
    return solids[best if errors[best] < BETTER * errors[0] else 0]


def resampled(field: Tensor, grid: Grid, other: Grid) -> Tensor:
    """A field [X, Y, Z] on `grid` read at the vertices of `other`, between its own by trilinear interpolation."""
    positions = other.all_positions(field.device)
    steps = torch.tensor(grid.shape, device=field.device) - 1
    unit = (positions - torch.tensor(grid.origin, device=field.device)) / grid.cell_size / steps  # [M, 3] in 0..1
    places = (2 * unit - 1).flip(-1).view(1, 1, 1, -1, 3)  # z, y, x: the last axis of the field first
    values = functional.grid_sample(field[None, None], places, padding_mode="border", align_corners=True)
    return values.view(other.shape)


class _Trial(StageProgress):
    """Runs a stage of which nobody hears, and keeps its errors."""

    def __init__(self, job: JobLike) -> None:
        super().__init__(_Silent(job), "")
        self._errors: list[Tensor] = []

    def observe_error(self, squared: Tensor) -> None:
        self._errors.append(squared.detach().mean().clone())

    def warning(self, message: str) -> None:
        pass  # the stage itself will say it

    def error(self) -> float:
        """Mean squared error of the second half of the steps; infinite without any."""
        late = self._errors[len(self._errors) // 2 :]
        return float(torch.stack(late).mean()) if late else float("inf")


class _Silent:
    """A job that can be stopped, but is told nothing."""

    def __init__(self, job: JobLike) -> None:
        self._job = job

    def should_stop(self) -> bool:
        return self._job.should_stop()

    @property
    def finish_requested(self) -> bool:
        return self._job.finish_requested

    def report(self, *values: object) -> None:
        pass

    def warning(self, message: str) -> None:
        pass
