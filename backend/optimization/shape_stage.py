# SPDX-License-Identifier: GPL-3.0-or-later
"""Shape stage: signed distance field, material field and light, seen through a new isosurface in every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.environment import EnvironmentLight
from ..appearance.fragments import Fragments
from ..appearance.material import MaterialField
from ..appearance.shading import shade_field
from ..geometry.band import Grid
from ..geometry.isosurface_series import IsosurfaceSeries
from ..geometry.sdf import SignedDistanceField, eikonal_loss, sign_change_loss
from ..kernels.bending import bending
from ..kernels.hash_grid import HashGridConfig
from ..kernels.primitives import RASTERIZERS
from ..kernels.vertex_normals import vertex_normals
from .best_state import BestState
from .losses import image_loss, squared_error
from .material_prior import MaterialPrior
from .progress import StageProgress
from .rates import Decay, adam
from .scene import Scene
from .settings import Settings
from .stage_light import StageLight, light_prior
from .step_graph import StepGraph
from .views import Draws, TrainingViews, masked_capacity

SDF_LEVELS, MATERIAL_LEVELS = 7, 9  # of the hash grids
FIRST_SDF_LEVELS, FIRST_MATERIAL_LEVELS = 2, 4  # open from the first step
SDF_OPEN, MATERIAL_OPEN = 0.28, 0.22  # share of the steps after which the others are
RATES = {"sdf table": 1e-2, "sdf mlp": 2e-3, "material table": 1e-2, "material mlp": 4e-3, "light": 3e-2}
REACH = 4  # cells from the surface up to which the start is a distance; beyond, it only has a sign
BAND_STEPS = 6  # the surface moves by less than a cell in so many steps


@dataclass
class ShapeState:
    """What the shape stage learns."""

    sdf: SignedDistanceField
    material: MaterialField
    light: EnvironmentLight

    @staticmethod
    def start(scene: Scene, settings: Settings, solid: Tensor | None = None) -> ShapeState:
        """A solid, or the visual hull where none is given, gray and half rough, under a gray sky.

        Args:
            solid: signed distance on `Grid.around(scene.bounds, settings.grid_cells)`, world units.
        """
        device = scene.device
        grid = Grid.around(scene.bounds, settings.grid_cells)
        if solid is None:
            solid = visual_hull(scene, grid)
        reach = REACH * grid.cell_size
        sdf_levels = HashGridConfig(
            levels=SDF_LEVELS,
            features=2,
            log2_table_size=settings.table_size,
            base_resolution=12,
            finest_resolution=settings.grid_cells,
        )
        sdf = SignedDistanceField(solid.clamp(-reach, reach), grid, sdf_levels)
        return ShapeState(sdf, *start_appearance(grid, settings, device))


def visual_hull(scene: Scene, grid: Grid) -> Tensor:
    """Signed distance [X, Y, Z] of the visual hull on `grid`, world units."""
    return scene.silhouettes.signed_distance(grid.all_positions(scene.device)).view(grid.shape)


def start_appearance(grid: Grid, settings: Settings, device: torch.device) -> tuple[MaterialField, EnvironmentLight]:
    """Gray and half rough, under a gray sky."""
    levels = HashGridConfig(
        levels=MATERIAL_LEVELS,
        features=2,
        log2_table_size=settings.table_size,
        base_resolution=12,
        finest_resolution=4 * settings.grid_cells,
    )
    material = MaterialField(grid.origin, grid.extent, levels, 32, device)
    return material, EnvironmentLight(settings.light_size, device=device)


def run_shape_stage(state: ShapeState, scene: Scene, settings: Settings, progress: StageProgress) -> None:
    """Fit `state` to the photographs in place.

    Raises:
        Stopped: the user stopped the job.
    """
    device, sdf, steps = scene.device, state.sdf, settings.shape_steps
    primitives = RASTERIZERS[settings.rasterizer]
    recorded = device.type == "cuda" and settings.rasterizer == "warp"
    views = TrainingViews(scene.photos, settings.shape_size, scene.near, device)
    draws = Draws(len(views), settings.batch, steps, settings.seed, device)
    light = StageLight(state.light, settings.light_interval)
    optimizer = adam(
        [
            ([sdf.table], RATES["sdf table"]),
            (sdf.mlp.parameters(), RATES["sdf mlp"]),
            ([state.material.table], RATES["material table"]),
            (state.material.mlp.parameters(), RATES["material mlp"]),
            (state.light.parameters(), RATES["light"] * light.interval),
        ],
        device,
    )
    decay = Decay(optimizer)
    cell = sdf.grid.cell_size
    prior = MaterialPrior.of(state.material, settings, reach=cell)
    surface = IsosurfaceSeries(sdf, recorded)
    capacity = masked_capacity(views, settings.batch) if recorded else None
    sign_weight, error, misfit = (torch.zeros((), device=device) for _ in range(3))

    def learn() -> None:
        values = sdf()
        vertices, triangles, neighbors = surface.extract(values)
        batch = views.drawn(draws)
        fragments = Fragments.of(
            vertices, triangles, batch.clip_transforms, batch.camera_centers, views.resolution, primitives, capacity
        )
        light_learns = light.update(step)
        normals = vertex_normals(vertices, triangles)
        points = shade_field(fragments, vertices, normals, state.material, light.at(fragments), encoded=True)
        rendered = fragments.antialiased(functional.pad(points.color, (0, 1), value=1.0), neighbors)
        loss = image_loss(rendered, batch.photo, draws.background, batch.valid)
        misfit.copy_(loss.detach())
        loss = loss + settings.eikonal * eikonal_loss(values, sdf.band, cell, draws.some(len(sdf.band.corners)))
        loss = loss + sign_weight * sign_change_loss(values, sdf.band, cell)
        loss = loss + settings.bending * bending(normals, triangles)
        loss = loss + prior(fragments, points.positions, points.material, draws)
        if light_learns:
            loss = loss + light_prior(state.light, settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        error.copy_(squared_error(rendered, batch.photo))

    fields = (*sdf.parameters(), sdf.dense, *state.material.parameters(), *state.light.parameters())
    best = BestState(fields)
    graph = StepGraph(learn, device, recorded, progress.warning)
    for step in progress.steps(steps):
        t = step / steps
        decay.to(min(1.0, (step + 1 - progress.first) / 20) * 0.1 ** max(0.0, 2 * t - 1))
        sign_weight.fill_(settings.sign_change * max(0.05, 1 - 4 * t))
        views.turn(draws, step)
        _open_levels(state, t)
        if step % BAND_STEPS == 0 and surface.follow():
            graph.renew()
        graph.run()
        if t >= SDF_OPEN and best.observe(misfit, last=step + 1 == steps) and surface.follow():
            graph.renew()
        progress.observe_error(error)
        progress.show(surface.vertices, surface.triangles, state.material)
    state.material.open_levels.count = MATERIAL_LEVELS


def _open_levels(state: ShapeState, t: float) -> None:
    """Let both fields have the levels that are theirs after a share `t` of the steps.

    A shape is found coarse to fine. A material that is finer than the shape would be painted with shading and
    occlusion that belong to the shape, and keep it.
    """
    sdf = FIRST_SDF_LEVELS + int(min(1.0, t / SDF_OPEN) * (SDF_LEVELS - FIRST_SDF_LEVELS))
    material = FIRST_MATERIAL_LEVELS + int(min(1.0, t / MATERIAL_OPEN) * (MATERIAL_LEVELS - FIRST_MATERIAL_LEVELS))
    state.sdf.open_levels.count, state.material.open_levels.count = sdf, material
