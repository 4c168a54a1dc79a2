# SPDX-License-Identifier: GPL-3.0-or-later
"""The object as it sees itself: radiance, by direction, of what hides the environment from each vertex."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.linear_maps import SparseMap
from .cube_map import cube_directions, cube_solid_angles, cube_texels

GLOW_SIZE = 2  # boxes of directions along a face of a vertex's cube
BOXES = 6 * GLOW_SIZE**2


@dataclass(frozen=True)
class Glow:
    """Which vertices each vertex sees in each of B = `BOXES` boxes of directions, the texels of a coarse cube map.

    Attributes:
        boxes: [V·B, V], share of a vertex in the solid angle that is occluded of a box; rows add up to one, or are
            empty where nothing is.
        mean: [V, V·B], share of a box in all that is occluded at its vertex.
        clear: [V, B, 1] float32, 1 where nothing in a box is occluded, 0 elsewhere.
    """

    boxes: SparseMap
    mean: SparseMap
    clear: Tensor

    @staticmethod
    def of(vertex: Tensor, direction: Tensor, seen: Tensor, size: int, count: int) -> Glow:
        """From the occluded ones of the rays of `count` vertices in 6·size² directions.

        Args:
            vertex: [N] int64, where a ray begins.
            direction: [N] int64, texel of the cube of directions.
            seen: [N] int64, the vertex that the ray hits.
        """
        device = vertex.device
        angles = cube_solid_angles(size).to(device)[direction]  # [N]
        rows = vertex * BOXES + cube_texels(cube_directions(size), GLOW_SIZE).to(device)[direction]
        # In float64 the order in which a GPU adds does not show.
        occluded = torch.zeros(count * BOXES, dtype=torch.float64, device=device).index_add_(0, rows, angles.double())
        boxes = SparseMap(rows, seen, (angles / occluded[rows]).float(), (count * BOXES, count), learns=False)
        filled = torch.nonzero(occluded)[:, 0]
        owners = filled // BOXES
        shares = (occluded[filled] / occluded.view(count, BOXES).sum(1)[owners]).float()
        mean = SparseMap(owners, filled, shares, (count, count * BOXES), learns=False)
        return Glow(boxes, mean, (occluded == 0).float().view(count, BOXES, 1))

    @torch.no_grad()
    def __call__(self, radiance: Tensor) -> Tensor:
        """Mean radiance [V, B, 3] of what occludes each box, for vertices of `radiance` [V, 3]; no gradient.

        A clear box has the mean of all that is occluded at its vertex, so that lookups between boxes fade into no
        black; a vertex where nothing is occluded has zero.
        """
        glow = self.boxes(radiance)
        mean = self.mean(glow)
        return torch.addcmul(glow.view(-1, BOXES, 3), self.clear, mean[:, None])
