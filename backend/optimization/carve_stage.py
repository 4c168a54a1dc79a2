# SPDX-License-Identifier: GPL-3.0-or-later
"""Carve stage: what the masks cannot carve. A voxel radiance field finds the cavities, depth fusion makes a solid.

The visual hull fills every concavity, and a surface that starts there sees no gradient that would open it. A field of
density has no such barrier: it begins nearly transparent, so that each ray reaches what lies deep inside.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..geometry.band import Grid
from ..kernels.depth_fusion import fuse_depth
from ..kernels.masked_adam import MaskedAdam
from ..kernels.radiance_grid import Cameras, RayGrid, find_depth, train_rays
from .progress import StageProgress
from .scene import Scene
from .settings import Settings
from .views import TrainingViews, side_that_fits

FIRST_OPACITY = 1e-3  # of a cell
DENSITY_RATE, COLOR_RATE = 0.1, 0.1  # where density grows faster than color is known, hollows stay full of fog
SINGLE = 0.1  # weight of each sample's own color
REACH = 4.0  # of the fusion, cells
OPAQUE_SHARE = 0.95  # of the object's pixels that must see a surface


def run_carve_stage(scene: Scene, grid: Grid, hull: Tensor, settings: Settings, progress: StageProgress) -> Tensor:
    """Signed distance [X, Y, Z], world units, of the hull without its cavities on `grid`.

    Args:
        hull: [X, Y, Z] float32, signed distance of the visual hull on `grid`, world units.

    Raises:
        Stopped: the user stopped the job.
    """
    device = scene.device
    # Rays are drawn from all photographs at once, so that all are on the device.
    views = TrainingViews(scene.photos, side_that_fits(scene.photos, settings.carve_size), scene.near, device)
    coarse = Grid.around(scene.bounds, settings.carve_cells)
    empty = scene.silhouettes.signed_distance(coarse.all_positions(device)) / coarse.cell_size
    rays = RayGrid(coarse.origin, coarse.cell_size, coarse.shape, empty)
    values = torch.zeros(len(empty), 4, device=device)
    values[:, 0] = math.log(math.expm1(-math.log1p(-FIRST_OPACITY)))
    optimizer = MaskedAdam(values)
    cameras = Cameras(views.intrinsics, views.cam_to_world, views.resolution)
    images = views.images.reshape(-1, 4)
    inside = torch.nonzero(images[:, 3] > 0)[:, 0].to(torch.int32)
    generator = torch.Generator(device).manual_seed(settings.seed)
    count = settings.carve_rays
    for step in progress.steps(settings.carve_steps):
        decay = 0.1 ** (step / settings.carve_steps)
        drawn = torch.randint(len(inside), (count,), device=device, generator=generator)
        jitter = torch.rand(count, device=device, generator=generator)
        backgrounds = torch.rand(count, 3, device=device, generator=generator)
        pixels = inside[drawn]
        errors = train_rays(rays, values, cameras, images, pixels, jitter, backgrounds, SINGLE, optimizer.gradient)
        optimizer.step(DENSITY_RATE * decay, COLOR_RATE * decay)
        progress.observe_error(errors)
    return carved(rays, values, cameras, views.images[..., 3] > 0.5, grid, hull)


def carved(rays: RayGrid, values: Tensor, cameras: Cameras, object_pixels: Tensor, grid: Grid, hull: Tensor) -> Tensor:
    """The hull [X, Y, Z] on `grid` without what the field's depth images see through.

    A field that is still fog, where many rays of the object end nowhere, carves nothing.
    """
    depth = find_depth(rays, values, cameras)
    if float((depth > 0)[object_pixels].float().mean()) < OPAQUE_SHARE:
        return hull
    reach = REACH * grid.cell_size
    world_to_cam = torch.linalg.inv(cameras.cam_to_world).contiguous()
    distance, _ = fuse_depth(grid.origin, grid.cell_size, grid.shape, reach, depth, cameras.intrinsics, world_to_cam)
    return torch.maximum(hull, distance.view(grid.shape))
