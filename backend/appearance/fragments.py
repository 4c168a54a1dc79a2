# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cameras see of a mesh: the covered pixels as a flat list, and their way back into images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..kernels.primitives import WARP, Primitives
from .projection import transform_points


@dataclass(frozen=True)
class Fragments:
    """The covered pixels of B images of one mesh.

    With a capacity the list has that length whatever is covered, so that its making waits for nothing and can be
    recorded in a CUDA graph: pixels beyond the capacity are left out, and unused places have triangle −1.

    Attributes:
        resolution: height and width of each image.
        clip: [B, V, 4] float32, clip positions; differentiable.
        triangles: [T, 3] int32.
        image_ids: [B, H, W] int32, triangle at each pixel, −1 where nothing is.
        pixels: [P] int64, flat indices b·H·W + row·W + column of the covered pixels; B·H·W in unused places.
        triangle_ids: [P] int32.
        barycentrics: [P, 2] float32; differentiable with respect to the vertices.
        derivatives: [P, 4] float32, d(b0, b1)/d(x, y) per pixel, no gradient.
        camera_centers: [B, 3] float32, world.
        primitives: what draws them.
    """

    resolution: tuple[int, int]
    clip: Tensor
    triangles: Tensor
    image_ids: Tensor
    pixels: Tensor
    triangle_ids: Tensor
    barycentrics: Tensor
    derivatives: Tensor
    camera_centers: Tensor
    primitives: Primitives = WARP

    @staticmethod
    def of(
        vertices: Tensor,
        triangles: Tensor,
        clip_transforms: Tensor,
        camera_centers: Tensor,
        resolution: tuple[int, int],
        primitives: Primitives = WARP,
        capacity: int | None = None,
    ) -> Fragments:
        """Rasterise `vertices` [V, 3], world, under `clip_transforms` [B, 4, 4]."""
        clip = transform_points(vertices, clip_transforms).contiguous()
        image_ids = primitives.rasterize(clip.detach(), triangles, resolution)
        flat = image_ids.reshape(-1)
        if capacity is None:
            pixels = torch.nonzero(flat >= 0)[:, 0]
            triangle_ids = flat[pixels]
        else:
            pixels = _listed(flat >= 0, capacity)
            triangle_ids = functional.pad(flat, (0, 1), value=-1)[pixels]
        barycentrics, derivatives = primitives.barycentrics_at(clip, triangles, triangle_ids, pixels, resolution)
        return Fragments(
            resolution,
            clip,
            triangles,
            image_ids,
            pixels,
            triangle_ids,
            barycentrics,
            derivatives,
            camera_centers,
            primitives,
        )

    @property
    def views(self) -> Tensor:
        """Image of each pixel, [P] int64; the last in unused places."""
        height, width = self.resolution
        return (self.pixels // (height * width)).clamp(max=len(self.clip) - 1)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values` [P, C] over the covered pixels, a scalar."""
        covered = (self.triangle_ids >= 0)[:, None]
        return (values * covered).sum() / (covered.sum() * values.shape[1]).clamp(min=1)

    def interpolate(self, attributes: Tensor) -> Tensor:
        """Vertex `attributes` [V, C] at the covered pixels [P, C]."""
        return self.primitives.interpolate(attributes, self.triangles, self.triangle_ids, self.barycentrics)

    def directions_to_camera(self, positions: Tensor) -> Tensor:
        """Unit vectors [P, 3] from world `positions` [P, 3] toward the camera of each pixel."""
        return functional.normalize(self.camera_centers[self.views] - positions, dim=-1)

    def image(self, values: Tensor) -> Tensor:
        """Image [B, H, W, C] with `values` [P, C] at the covered pixels and zero elsewhere."""
        height, width = self.resolution
        count = len(self.clip) * height * width
        flat = torch.zeros(count + 1, values.shape[-1], device=values.device)  # the last row takes unused places
        flat = flat.index_copy(0, self.pixels, values)[:count]
        return flat.view(len(self.clip), height, width, -1)

    def antialiased(self, values: Tensor, neighbors: Tensor | None = None) -> Tensor:
        """`image(values)` blended across silhouettes, with gradients to the vertices."""
        return self.primitives.antialias(self.image(values), self.clip, self.triangles, self.image_ids, neighbors)


def _listed(covered: Tensor, capacity: int) -> Tensor:
    """The first `capacity` numbers [capacity] int64 of the set entries of `covered` [N], then N; waits for nothing."""
    count = len(covered)
    place = torch.cumsum(covered, 0) - 1
    place = torch.where(covered, place, capacity).clamp(max=capacity)
    numbers = torch.arange(count, device=covered.device)
    return torch.full((capacity + 1,), count, device=covered.device).scatter_(0, place, numbers)[:capacity]
