# SPDX-License-Identifier: GPL-3.0-or-later
"""Shadows and two bounces, traced once per mesh and then applied as matrices.

For each vertex and each of K directions (the texels of a small cube map, so that the environment reduces to them
exactly) a ray says whether the environment is visible. Irradiance under any light is then a matrix product, free of
noise and linear in the light: precomputed radiance transfer (Sloan et al. 2002) in a basis of solid-angle boxes.

Such a box is 11° wide, and its one ray would cast the shadow of a sun that stands elsewhere in it. The texels that are
much brighter than the rest of their box therefore get rays of their own, for what they have more than that rest:
samples by importance, but always the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..kernels.linear_maps import SparseMap, dense_product
from ..kernels.visibility import Occluder, vertex_occlusion, vertex_visibility
from .color import luminance
from .cube_map import cube_directions, cube_solid_angles, downsample, sample_vertex_cubes
from .environment import Prefiltered
from .glow import BOXES, Glow

RAY_OFFSET = 2e-3  # of the mesh's diagonal: leaves the faces that meet at a vertex
SUNS = 64  # texels of the light with rays of their own


@dataclass(frozen=True)
class Suns:
    """Texels of a light [6, S, S, 3] that stand out of the boxes of a coarser cube [6, R, R].

    Attributes:
        texels: [S] int64, flat.
        boxes: [S] int64, those they lie in.
        others: [6, S, S, 1] float32, 0 at the suns, 1 elsewhere.
        rest: [6, R, R, 1] float32, share of each box that is no sun.
    """

    texels: Tensor
    boxes: Tensor
    others: Tensor
    rest: Tensor

    @staticmethod
    def of(base: Tensor, size: int) -> Suns:
        """The texels of `base` [6, S, S, 3] that have most more light than their box, of R = `size`."""
        side = base.shape[1]
        k = side // size
        angles = cube_solid_angles(side).to(base.device)
        boxes = torch.arange(6 * size * size, device=base.device).view(6, size, size)
        boxes = boxes.repeat_interleave(k, 1).repeat_interleave(k, 2).reshape(-1)  # [6·S·S]
        excess = base.reshape(-1, 3) - downsample(base, size).reshape(-1, 3)[boxes]
        texels = (luminance(excess)[:, 0] * angles).topk(min(SUNS, len(boxes))).indices
        others = torch.ones_like(base[..., :1])
        others.view(-1)[texels] = 0.0
        return Suns(texels, boxes[texels], others, downsample(others, size))

    def split(self, base: Tensor) -> Tensor:
        """Mean radiance of the boxes without their suns, then what the suns have more: [6·R·R + S, 3]."""
        sky = (downsample(base * self.others, self.rest.shape[1]) / self.rest.clamp(min=1e-6)).reshape(-1, 3)
        return torch.cat((sky, base.reshape(-1, 3)[self.texels] - sky[self.boxes]))


class VertexLight(NamedTuple):
    """Light that arrives at the vertices of a mesh.

    Attributes:
        share: [V, 3] float32, share of the unshadowed irradiance that arrives; more than one where bounced light adds.
        glow: [V, B, 3] float32, mean radiance of what hides the environment in each box of a cube of directions, as
            `Glow` has it; no gradient.
    """

    share: Tensor
    glow: Tensor


@dataclass(frozen=True)
class Transport:
    """What the vertices of one mesh see of the environment and of each other.

    Attributes:
        size: side R of a face of the cube of directions; K = 6·R·R.
        direct: [V, K + S] float32, visibility · cos θ · solid angle; the last S are the suns'.
        suns: those texels of a light that have rays of their own, found by `toward`.
        bounce: [V, V] or None, irradiance at a vertex for unit radiosity of the vertices it sees.
        glow: where the vertices see each other, by direction; None without bounces.
        normals: [V, 3] float32, the normals for which `direct` was traced.
        visibility: [V, ΣK] uint8 0..255, visible share per direction of the cube and of its coarser levels.
        level_sizes: face sides of these levels, finest first.
        vertices: [V, 3] float32, world.
        occluder: the mesh.
    """

    size: int
    direct: Tensor
    suns: Suns | None
    bounce: SparseMap | None
    glow: Glow | None
    normals: Tensor
    visibility: Tensor
    level_sizes: tuple[int, ...]
    vertices: Tensor
    occluder: Occluder

    @staticmethod
    def trace(vertices: Tensor, normals: Tensor, triangles: Tensor, size: int, bounce: bool) -> Transport:
        """Trace the visibility of `vertices` [V, 3] with unit `normals` [V, 3] in 6·size² directions.

        With `bounce`, what is seen of the object itself reflects light too.
        """
        device = vertices.device
        vertices, normals = vertices.detach(), normals.detach()
        directions = cube_directions(size).to(device)  # [K, 3]
        solid_angles = cube_solid_angles(size).to(device)  # [K]
        occluder = Occluder(vertices, triangles)
        hits = vertex_visibility(occluder, vertices, normals, directions, _offset(vertices))  # [V, K]
        cosines = (normals @ directions.T).clamp(min=0) * solid_angles  # [V, K]
        clear = hits < 0
        direct = cosines * clear
        blocked = cosines - direct
        spread: SparseMap | None = None
        glow: Glow | None = None
        if bounce:
            vertex, direction = torch.nonzero(blocked > 0, as_tuple=True)
            seen = triangles[hits[vertex, direction].long(), 0].long()
            spread = SparseMap(vertex, seen, blocked[vertex, direction], (len(vertices), len(vertices)))
            glow = Glow.of(vertex, direction, seen, size, len(vertices))
        levels, sizes = [], []
        cube = clear.float().T.reshape(6, size, size, -1)  # [6, R, R, V]
        while True:
            levels.append(cube.reshape(-1, len(vertices)))
            sizes.append(cube.shape[1])
            if cube.shape[1] % 2:
                break
            cube = downsample(cube, cube.shape[1] // 2)
        visibility = (torch.cat(levels).T * 255).round().to(torch.uint8).contiguous()
        return Transport(size, direct, None, spread, glow, normals, visibility, tuple(sizes), vertices, occluder)

    @torch.no_grad()
    def toward(self, base: Tensor) -> Transport:
        """The same, with rays of their own toward the brightest texels of a light `base` [6, S, S, 3]."""
        suns = Suns.of(base, self.size)
        side = base.shape[1]
        directions, angles = (x.to(base.device)[suns.texels] for x in (cube_directions(side), cube_solid_angles(side)))
        blocked = vertex_occlusion(self.occluder, self.vertices, self.normals, directions, _offset(self.vertices))
        cosines = (self.normals @ directions.T).clamp(min=0) * angles  # [V, S]
        direct = torch.cat((self.direct[:, : 6 * self.size * self.size], cosines * ~blocked), dim=1)
        return replace(self, direct=direct, suns=suns)

    def light_vertices(self, light: Prefiltered, base: Tensor, base_color: Tensor) -> VertexLight:
        """Light that arrives at the vertices: from the environment, and by up to two bounces off the object.

        Args:
            light: the environment, for its irradiance without shadows.
            base: [6, S, S, 3] float32, the environment's texels; S is a multiple of `size`, and that of the light whose
                suns were looked for.
            base_color: [V, 3] float32, what the object's own surface reflects (used without gradient).
        """
        if self.suns is None:
            radiance = downsample(base, self.size).reshape(-1, 3)  # [K, 3]
        else:
            radiance = self.suns.split(base)  # [K + S, 3]
        arriving = dense_product(self.direct, radiance)  # [V, 3]
        if self.bounce is not None and self.glow is not None:
            reflectance = base_color.detach() / torch.pi
            once = arriving + self.bounce(reflectance * arriving)
            reflected = reflectance * once  # radiance of the surface as its neighbors see it
            glow = self.glow(reflected)
            arriving = arriving + self.bounce(reflected)
        else:
            glow = arriving.new_zeros(len(arriving), BOXES, 3)
        return VertexLight(arriving / light.irradiance(self.normals).clamp(min=1e-4), glow)

    def specular_visibility(
        self, triangles: Tensor, triangle_ids: Tensor, barycentrics: Tensor, reflected: Tensor, roughness: Tensor
    ) -> Tensor:
        """Visible share [P, 1] of the lobe of `roughness` [P, 1] around `reflected` [P, 3]; no gradient."""
        with torch.no_grad():
            # A GGX lobe spans about 2·atan(α) around the reflection, a texel of the cube about 90°/R.
            lobe = 2 * torch.atan(roughness.square())[:, 0] / (torch.pi / 2)
            level = torch.log2((lobe * self.size).clamp(min=1)).round().long().clamp(max=len(self.level_sizes) - 1)
            sizes = torch.tensor(self.level_sizes, device=level.device)
            starts = torch.cumsum(6 * sizes * sizes, 0) - 6 * sizes * sizes
            place = (triangles, triangle_ids, barycentrics, reflected, sizes[level], starts[level])
            return sample_vertex_cubes(self.visibility[..., None], *place) / 255


def _offset(vertices: Tensor) -> float:
    """How far from a vertex its rays begin, world units."""
    return RAY_OFFSET * float((vertices.amax(0) - vertices.amin(0)).norm())
