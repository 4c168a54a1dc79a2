# SPDX-License-Identifier: GPL-3.0-or-later
"""Shape stage: signed distance field, material field and light, seen through a new isosurface in every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..appearance.bsdf import split_sum
from ..appearance.color import linear_to_srgb
from ..appearance.environment import EnvironmentLight
from ..appearance.fragments import Fragments
from ..appearance.material import MaterialField, decode_material
from ..geometry.band import Grid
from ..geometry.isosurface import extract
from ..geometry.mesh import vertex_normals
from ..geometry.sdf import SignedDistanceField, eikonal_loss, sign_change_loss
from ..kernels.antialias import build_neighbors
from ..kernels.hash_grid import HashGridConfig
from ..kernels.primitives import RASTERIZERS, WARP, Primitives
from .losses import image_loss
from .progress import StageProgress
from .scene import Scene
from .settings import Settings
from .stage_light import StageLight
from .views import Batch, TrainingViews, ViewOrder

SDF_LEVELS = 7  # of the hash grids
MATERIAL_LEVELS = 9
FIRST_LEVELS = 2  # of the distance field, open from the first step
UNLOCK = 2.5  # the others are open after 1 / UNLOCK of the steps
RATES = {"sdf table": 1e-2, "sdf mlp": 2e-3, "material table": 1e-2, "material mlp": 4e-3, "light": 3e-2}
EIKONAL_STRIDE = 4  # one in so many cells is regularised in a step
BAND_STEPS = 6  # the surface moves by less than a cell in so many steps


@dataclass
class ShapeState:
    """What the shape stage learns."""

    sdf: SignedDistanceField
    material: MaterialField
    light: EnvironmentLight

    @staticmethod
    def start(scene: Scene, settings: Settings) -> ShapeState:
        """The visual hull, gray and half rough, under a gray sky."""
        device = scene.device
        grid = Grid.around(scene.bounds, settings.grid_cells)
        hull = scene.silhouettes.signed_distance(grid.all_positions(device)).view(grid.shape)
        reach = 4 * grid.cell_size
        sdf_levels = HashGridConfig(
            levels=SDF_LEVELS,
            features=2,
            log2_table_size=settings.table_size,
            base_resolution=12,
            finest_resolution=settings.grid_cells,
        )
        sdf = SignedDistanceField(hull.clamp(-reach, reach), grid, sdf_levels)
        return ShapeState(sdf, *start_appearance(grid, settings, device))


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
    views = TrainingViews(scene.photos, settings.shape_size, scene.near, scene.device)
    generator = torch.Generator().manual_seed(settings.seed)
    order = ViewOrder(len(views), settings.batch, generator)
    optimizer = torch.optim.Adam(
        [
            {"params": [state.sdf.table], "lr": RATES["sdf table"]},
            {"params": state.sdf.mlp.parameters(), "lr": RATES["sdf mlp"]},
            {"params": [state.material.table], "lr": RATES["material table"]},
            {"params": state.material.mlp.parameters(), "lr": RATES["material mlp"]},
            {"params": state.light.parameters(), "lr": RATES["light"] * settings.light_interval},
        ],
        betas=(0.9, 0.99),
        eps=1e-15,
        fused=True,
    )
    light = StageLight(state.light, settings.light_interval)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    for step in progress.steps(settings.shape_steps):
        t = step / settings.shape_steps
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate * min(1.0, (step + 1 - progress.first) / 20) * 0.1 ** max(0.0, 2 * t - 1)
        state.sdf.active_levels = min(SDF_LEVELS, FIRST_LEVELS + int(t * UNLOCK * SDF_LEVELS))
        if step % BAND_STEPS == 0:
            state.sdf.update_band()
        batch = views.batch(order.next())
        background = torch.rand(len(batch.photo), 1, 1, 3, generator=generator).to(scene.device)
        values = state.sdf()
        vertices, triangles = extract(values, state.sdf.band)
        light_learns = light.update(step)
        rendered, roughness, metallic = render(
            state, light, vertices, triangles, batch, views.resolution, generator, RASTERIZERS[settings.rasterizer]
        )
        loss = image_loss(rendered, batch.photo, background, batch.valid)
        cell = state.sdf.grid.cell_size
        loss = loss + settings.eikonal * eikonal_loss(
            values, state.sdf.band, cell, step % EIKONAL_STRIDE, EIKONAL_STRIDE
        )
        weight = settings.sign_change * max(0.05, 1 - 4 * t)
        loss = loss + weight * sign_change_loss(values, state.sdf.band, cell)
        loss = loss + settings.material_smoothness * roughness + settings.metallic_prior * metallic
        if light_learns:
            loss = loss + settings.light_neutrality * state.light.neutrality_loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        progress.observe(rendered, batch.photo)
        progress.show(vertices, triangles, state.material)


def render(
    state: ShapeState,
    light: StageLight,
    vertices: Tensor,
    triangles: Tensor,
    batch: Batch,
    resolution: tuple[int, int],
    generator: torch.Generator,
    primitives: Primitives = WARP,
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied, sRGB-encoded images [B, H, W, 4] of the mesh, how rough the material field is, mean metallic."""
    normals = vertex_normals(vertices, triangles)
    fragments = Fragments.of(vertices, triangles, batch.clip_transforms, batch.camera_centers, resolution, primitives)
    interpolated = fragments.interpolate(torch.cat((vertices, normals), dim=1))
    positions = interpolated[:, :3]
    normal = torch.nn.functional.normalize(interpolated[:, 3:], dim=-1)
    raw = state.material.raw(positions)
    material = decode_material(raw)
    color = split_sum(
        material.base_color,
        material.roughness,
        material.metallic,
        normal,
        fragments.directions_to_camera(positions),
        light.at(fragments),
    )
    encoded = linear_to_srgb(color.clamp(0, 1))
    image = fragments.antialiased(
        torch.cat((encoded, torch.ones_like(encoded[:, :1])), dim=-1), build_neighbors(triangles)
    )
    # A quarter of the pixels, drawn anew in each step, regularises as well as all of them.
    some = positions[int(torch.randint(4, (1,), generator=generator)) :: 4]
    offset = torch.randn(some.shape, generator=generator).to(some) * state.sdf.grid.cell_size
    smoothness = (state.material.raw(some + offset) - state.material.raw(some)).abs().mean()
    return image, smoothness, material.metallic.mean()
