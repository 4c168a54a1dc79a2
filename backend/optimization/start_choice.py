# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cavities the shape stage starts with: both solids are fitted coarsely for a moment, the photographs decide.

A radiance field opens cavities that no silhouette shows, but it also digs into what is shiny: a mirror image behind a
surface explains the photographs as well as the reflection does, until a material and a light are part of the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.fragments import Fragments
from ..appearance.shading import shade_field
from ..geometry.band import Grid
from ..geometry.isosurface import extract
from ..kernels.vertex_normals import vertex_normals
from .cavities import Cavities, resampled
from .losses import pixel_errors
from .progress import JobLike, StageProgress
from .scene import Scene
from .settings import Settings
from .shape_stage import ShapeState, run_shape_stage
from .views import VIEWS_AT_ONCE, TrainingViews

CELLS, STEPS, SIZE = 80, 100, 200  # of the fit: of its grid, of its optimiser, of its images (pixels)
# Share of the hull's error where a cavity is seen, below which the cavity is kept. Of those that were looked into, the
# ones that made the asset better had 0.50 at most (lego's bucket 0.31); real ones whose walls the mesh cannot follow
# made it worse from 0.61 on (mic's grille, the inside of helmet's dome), and from 0.77 on none was real.
BETTER = 0.55
SAMPLES = 8  # of a ray between the two surfaces


def choose_start(
    scene: Scene,
    grid: Grid,
    hull: Tensor,
    carved: Tensor,
    settings: Settings,
    job: JobLike,
    tell: Callable[[float], None],
) -> Tensor:
    """The hull with those cavities of the carved solid where its fit comes clearly nearer to the photographs.

    Args:
        hull, carved: signed distances [X, Y, Z] on `grid`, world units.
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
    views = TrainingViews(scene.photos, brief.shape_size, scene.near, scene.device)
    solids = resampled(hull, grid, coarse), resampled(carved, grid, coarse)
    looks = []
    for number, solid in enumerate(solids):
        tell(number / 2)
        state = ShapeState.start(scene, brief, solid)
        run_shape_stage(state, scene, brief, _Trial(job))
        looks.append(_look(state, views))
    tell(1.0)
    cavities = Cavities.between(*solids, coarse)
    return cavities.keep(_better(cavities, *looks), hull, carved, grid)


@dataclass(frozen=True)
class _Look:
    """A fitted state in all views: squared `errors` [N, H, W], the surface there `positions` [N, H, W, 3], world, and
    whether there is one, `covered` [N, H, W] bool."""

    errors: Tensor
    positions: Tensor
    covered: Tensor
    centers: Tensor  # [N, 3] of the cameras, world


@torch.no_grad()
def _look(state: ShapeState, views: TrainingViews) -> _Look:
    state.sdf.update_band()
    vertices, triangles = extract(state.sdf(), state.sdf.band)
    normals = vertex_normals(vertices, triangles)
    light = state.light.prefilter()
    parts = []
    for indices in torch.arange(len(views), device=vertices.device).split(VIEWS_AT_ONCE):
        batch = views.batch(indices)
        fragments = Fragments.of(vertices, triangles, batch.clip_transforms, batch.camera_centers, views.resolution)
        points = shade_field(fragments, vertices, normals, state.material, light, encoded=True)
        image = fragments.image(functional.pad(torch.cat((points.color, points.positions), dim=1), (0, 1), value=1.0))
        rendered = image[..., [0, 1, 2, 6]]
        parts.append((pixel_errors(rendered, batch.photo), image[..., 3:6], image[..., 6] > 0, batch.camera_centers))
    return _Look(*(torch.cat(some) for some in zip(*parts, strict=True)))


def _better(cavities: Cavities, hull: _Look, carved: _Look) -> Tensor:
    """Whether each cavity [count + 1], by number, brings the images nearer to the photographs in the pixels that look
    into it: those whose rays are in it between the hull's surface and the carved one, for so long as they are."""
    directions = functional.normalize(hull.positions - hull.centers[:, None, None], dim=-1)
    through = hull.positions + cavities.grid.extent * directions
    ends = torch.where(carved.covered[..., None], carved.positions, through)
    sums = torch.zeros(2, cavities.count + 1, device=ends.device)
    for sample in range(SAMPLES):
        points = torch.lerp(hull.positions, ends, (sample + 0.5) / SAMPLES)
        numbers = torch.where(hull.covered, cavities.at(points), 0).reshape(-1)
        for sum_of, look in zip(sums, (hull, carved), strict=True):
            sum_of.index_add_(0, numbers, look.errors.reshape(-1))
    better = sums[1] < BETTER * sums[0]
    better[0] = False
    return better


class _Trial(StageProgress):
    """Runs a stage of which nobody hears."""

    def __init__(self, job: JobLike) -> None:
        super().__init__(_Silent(job), "")

    def observe_error(self, squared: Tensor) -> None:
        pass

    def warning(self, message: str) -> None:
        pass  # the stage itself will say it


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
