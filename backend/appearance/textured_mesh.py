# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh with an atlas and tangent frames, shaded from textures: the form of the finished asset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..geometry.tangents import tangent_frames
from ..kernels.antialias import build_neighbors
from ..kernels.primitives import WARP, Primitives
from .bsdf import PrefilteredLight, split_sum
from .fragments import Fragments
from .material import Material

CHANNELS = 7  # base color 3, roughness, metallic, tangent-space normal x and y


@dataclass(frozen=True)
class TexturedMesh:
    """Geometry of the asset. Corners with the same vertex, uv and tangent are one row of the corner arrays.

    Attributes:
        vertices: [V, 3] float32, world.
        triangles: [T, 3] int32.
        normals: [V, 3] float32, unit.
        neighbors: [T, 3] int32, across each edge.
        corner_triangles: [T, 3] int32 into the corner arrays.
        corner_attributes: [C, 9] float32: normal, tangent with the bitangent's sign, uv.
    """

    vertices: Tensor
    triangles: Tensor
    normals: Tensor
    neighbors: Tensor
    corner_triangles: Tensor
    corner_attributes: Tensor

    @staticmethod
    def of(vertices: Tensor, triangles: Tensor, normals: Tensor, uvs: np.ndarray) -> TexturedMesh:
        """Compute tangent frames for `uvs` [T, 3, 2]."""
        device = vertices.device
        positions, faces, directions = (x.detach().cpu().numpy() for x in (vertices, triangles, normals))
        tangents = tangent_frames(positions, faces, directions, uvs)  # [T, 3, 4]
        rows = np.concatenate((directions[faces], tangents, uvs), axis=-1).reshape(-1, 9).astype(np.float32)
        unique, index = np.unique(np.c_[faces.reshape(-1, 1), rows[:, 3:]], axis=0, return_inverse=True)
        first = np.zeros(len(unique), dtype=np.int64)
        first[index.reshape(-1)] = np.arange(len(rows))
        return TexturedMesh(
            vertices,
            triangles,
            normals,
            build_neighbors(triangles),
            torch.from_numpy(index.reshape(-1, 3).astype(np.int32)).to(device),
            torch.from_numpy(rows[first]).to(device),
        )


@dataclass(frozen=True)
class SurfacePoints:
    """Frames of the covered pixels: all [P, …] float32, without gradient."""

    positions: Tensor  # [P, 3] world
    normals: Tensor  # [P, 3] unit
    tangents: Tensor  # [P, 3] unit
    bitangents: Tensor  # [P, 3]
    uv: Tensor  # [P, 2]
    texels_per_pixel: Tensor  # [P] longer side of the pixel's footprint in a texture of unit size
    view: Tensor  # [P, 3] unit, toward the camera
    primitives: Primitives = WARP

    @staticmethod
    @torch.no_grad()
    def of(mesh: TexturedMesh, fragments: Fragments) -> SurfacePoints:
        """Interpolate the frames of `mesh` at `fragments`, as MikkTSpace prescribes: bitangents stay unnormalised."""
        positions = fragments.interpolate(mesh.vertices)
        rows = fragments.primitives.interpolate(
            mesh.corner_attributes, mesh.corner_triangles, fragments.triangle_ids, fragments.barycentrics
        )
        normals = functional.normalize(rows[:, :3], dim=-1)
        tangents = functional.normalize(rows[:, 3:6], dim=-1)
        bitangents = torch.linalg.cross(normals, tangents) * torch.sign(rows[:, 6:7])
        corners = mesh.corner_attributes[:, 7:][
            mesh.corner_triangles[fragments.triangle_ids.long()].long()
        ]  # [P, 3, 2]
        sides = corners[:, :2] - corners[:, 2:]  # [P, 2, 2] duv / d(b0, b1)
        change = fragments.derivatives.view(-1, 2, 2)  # d(b0, b1) / d(x, y)
        footprint = torch.einsum("pkc,pkx->pxc", sides, change)  # [P, xy, uv]
        longest = footprint.norm(dim=-1).amax(-1)
        view = fragments.directions_to_camera(positions)
        return SurfacePoints(positions, normals, tangents, bitangents, rows[:, 7:], longest, view, fragments.primitives)

    def perturbed(self, normal_xy: Tensor) -> Tensor:
        """World normals [P, 3] for tangent-space `normal_xy` [P, 2]."""
        x, y = normal_xy.split(1, dim=-1)
        z = (1 - x * x - y * y).clamp(min=1e-3).sqrt()
        return functional.normalize(self.tangents * x + self.bitangents * y + self.normals * z, dim=-1)


def sample_values(textures: Tensor, points: SurfacePoints) -> tuple[Tensor, Tensor]:
    """Material inputs [P, 5] and tangent-space normal xy [P, 2] from `textures` [H, W, 7], with mip levels;
    differentiable."""
    lod = torch.log2((points.texels_per_pixel * max(textures.shape[:2])).clamp(min=1e-6)).clamp(min=0)
    values = points.primitives.sample_texture(textures, points.uv, lod)
    return values[:, :5], values[:, 5:]


def sample(textures: Tensor, points: SurfacePoints) -> tuple[Material, Tensor]:
    """As `sample_values`, by the names of the inputs."""
    values, normal_xy = sample_values(textures, points)
    return Material(values[:, :3], values[:, 3:4], values[:, 4:5]), normal_xy


def shade(textures: Tensor, points: SurfacePoints, light: PrefilteredLight) -> tuple[Tensor, Material, Tensor]:
    """Linear radiance [P, 3] toward the cameras, the sampled material, and world normals [P, 3]."""
    material, normal_xy = sample(textures, points)
    normals = points.perturbed(normal_xy)
    return split_sum(*material, normals, points.view, light), material, normals
