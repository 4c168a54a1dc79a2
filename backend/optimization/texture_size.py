# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the textures have to be to hold what the photographs show, and no larger.

More texels would be read through their mip levels, where small charts blend with their neighbors; they would cost time
and memory, and the artist a larger file.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..capture.loader import Photos

CHART_SHARE = 0.5  # of the texels that charts usually cover
SMALLEST = 256


def texture_side(vertices: Tensor, triangles: Tensor, photos: Photos, limit: int) -> int:
    """The least power of two, `limit` at most, with which a texel is no larger than a pixel of the closest look at it.

    What stands before a triangle is not asked, so that the answer may be a little too large.

    Args:
        vertices: [V, 3] float32, world.
        triangles: [T, 3], any integer type.
    """
    corners = vertices[triangles.long()]  # [T, 3, 3]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2  # [T, 3] along normals
    centers = corners.mean(1)
    pixels = torch.zeros(len(triangles), device=vertices.device)  # [T] of the largest view
    for intrinsics, pose in zip(photos.intrinsics.to(vertices), photos.cam_to_world.to(vertices), strict=True):
        toward = pose[:3, 3] - centers
        solid_angles = (areas * toward).sum(1) / toward.norm(dim=1).clamp(min=1e-12) ** 3
        pixels = torch.maximum(pixels, intrinsics[0] * intrinsics[1] * solid_angles)
    side = math.sqrt(max(1.0, float(pixels.sum()) / CHART_SHARE))
    return min(limit, max(SMALLEST, 1 << math.ceil(math.log2(side))))
