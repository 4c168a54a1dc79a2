# SPDX-License-Identifier: GPL-3.0-or-later
"""How fine the field, the mesh and the textures have to be to hold what the photographs show, and no finer.

What is finer than the pixels fits their noise instead. It also costs time and memory, and the artist a larger file;
texels beyond need would be read through their mip levels, where small charts blend with their neighbors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..capture.loader import Photos
from ..geometry.mesh import face_normals

CELLS_PER_PIXEL = 0.6
TRIANGLES_PER_PIXEL = 0.6  # of the closest look at them; twice as many make no better asset
CHART_SHARE = 0.5  # of the texels that charts usually cover
FEWEST_CELLS, FEWEST_TRIANGLES, SMALLEST_SIDE = 32, 5000, 256


def field_cells(bounds: Tensor, photos: Photos, limit: int) -> int:
    """Cells along the longest side of `bounds` [2, 3] (world), `limit` at most, no finer than the pixels of a usual
    photograph of it."""
    poses, intrinsics = photos.cam_to_world, photos.intrinsics.to(photos.cam_to_world)
    corners = bounds.to(poses)
    distances = (poses[:, :3, 3] - corners.mean(0)).norm(dim=1)
    longest = (corners[1] - corners[0]).max()
    pixels = (intrinsics[:, :2].amax(1) * longest / distances.clamp(min=1e-12)).median()
    return min(limit, max(FEWEST_CELLS, math.ceil(CELLS_PER_PIXEL * float(pixels))))


def triangle_count(vertices: Tensor, triangles: Tensor, photos: Photos, limit: int) -> int:
    """Triangles, about, that a mesh needs, `limit` at most; arguments as for `texture_side`."""
    needed = math.ceil(TRIANGLES_PER_PIXEL * pixels_shown(vertices, triangles, photos))
    return min(limit, max(FEWEST_TRIANGLES, needed))


def texture_side(vertices: Tensor, triangles: Tensor, photos: Photos, limit: int) -> int:
    """The least power of two, `limit` at most, with which a texel is no larger than a pixel of the closest look at it.

    Args:
        vertices: [V, 3] float32, world.
        triangles: [T, 3], any integer type.
    """
    side = math.sqrt(max(1.0, pixels_shown(vertices, triangles, photos) / CHART_SHARE))
    return min(limit, max(SMALLEST_SIDE, 1 << math.ceil(math.log2(side))))


def pixels_shown(vertices: Tensor, triangles: Tensor, photos: Photos) -> float:
    """Pixels that the surface has in all, each triangle in the closest look at it.

    What stands before a triangle is not asked, so that the answer may be a little too large.
    """
    areas = face_normals(vertices, triangles) / 2  # [T, 3] along normals
    centers = vertices[triangles.long()].mean(1)
    pixels = torch.zeros(len(triangles), device=vertices.device)  # [T] of the largest view
    for intrinsics, pose in zip(photos.intrinsics.to(vertices), photos.cam_to_world.to(vertices), strict=True):
        toward = pose[:3, 3] - centers
        solid_angles = (areas * toward).sum(1) / toward.norm(dim=1).clamp(min=1e-12) ** 3
        pixels = torch.maximum(pixels, intrinsics[0] * intrinsics[1] * solid_angles)
    return float(pixels.sum())
