# SPDX-License-Identifier: GPL-3.0-or-later
"""Fusion of depth images into a truncated signed distance (Curless and Levoy 1996): one thread a voxel, all views."""

from __future__ import annotations

from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch_range

wp.set_module_options(MODULE_OPTIONS)


@wp.kernel
@no_type_check
def _fuse(
    begin: int,
    origin: wp.vec3,
    cell_size: float,
    shape: wp.vec3i,
    reach: float,
    depth: wp.array3d(dtype=wp.float32),
    intrinsics: wp.array(dtype=wp.vec4),
    world_to_cam: wp.array(dtype=wp.mat44),
    distance: wp.array(dtype=wp.float32),
    weight: wp.array(dtype=wp.float32),
):
    voxel = begin + wp.tid()
    x = voxel / (shape[1] * shape[2])
    y = voxel / shape[2] - x * shape[1]
    z = voxel % shape[2]
    point = origin + cell_size * wp.vec3(float(x), float(y), float(z))
    total = wp.float32(0.0)
    votes = wp.float32(0.0)
    for view in range(depth.shape[0]):
        local = wp.transform_point(world_to_cam[view], point)
        ahead = -local[2]
        if ahead > 1.0e-6:
            k = intrinsics[view]
            j = int(wp.floor(k[0] * local[0] / ahead + k[2]))
            i = int(wp.floor(-k[1] * local[1] / ahead + k[3]))
            if i >= 0 and j >= 0 and i < depth.shape[1] and j < depth.shape[2]:
                seen = depth[view, i, j]
                if seen > 0.0:
                    signed = seen - wp.length(local)
                    if signed > -reach:
                        total += wp.min(signed, reach)
                        votes += 1.0
    weight[voxel] = votes
    distance[voxel] = wp.where(votes > 0.0, total / wp.max(votes, 1.0), -reach)


def fuse_depth(
    origin: tuple[float, float, float],
    cell_size: float,
    shape: tuple[int, int, int],
    reach: float,
    depth: Tensor,
    intrinsics: Tensor,
    world_to_cam: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean signed distance of voxels to the surfaces that views see, and how many views say so.

    A view says nothing of what lies more than `reach` behind its surface, nor where its ray meets none.

    Args:
        origin, cell_size: of the voxels, world.
        shape: voxels along x, y, z; z is fastest.
        reach: truncation, world units.
        depth: [N, H, W] float32, distance along the ray, world units; <= 0 is none.
        intrinsics: [N, 4] fx fy cx cy of these images.
        world_to_cam: [N, 4, 4], OpenGL axes.

    Returns:
        [X·Y·Z] float32 in −reach..reach, positive outside, −reach where no view has a say; and [X·Y·Z] float32.
    """
    count = shape[0] * shape[1] * shape[2]
    distance = torch.empty(count, device=depth.device)
    weight = torch.empty(count, device=depth.device)
    launch_range(
        _fuse,
        count,
        [wp.vec3(*origin), cell_size, wp.vec3i(*shape), reach, as_warp(depth, wp.float32)]
        + [as_warp(intrinsics, wp.vec4), as_warp(world_to_cam, wp.mat44)],
        [as_warp(distance, wp.float32), as_warp(weight, wp.float32)],
        depth.device,
    )
    return distance, weight
