# SPDX-License-Identifier: GPL-3.0-or-later
"""From the material field on a mesh to texels, and from texels to the asset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.material import MIN_ROUGHNESS, MaterialField
from ..appearance.textured_mesh import CHANNELS, TexturedMesh
from ..export.asset import Asset
from ..geometry.texels import TexelMap

POINTS_AT_ONCE = 1 << 18


@torch.no_grad()
def bake(field: MaterialField, vertices: Tensor, triangles: Tensor, texels: TexelMap) -> Tensor:
    """Texels [H, W, 7] of the field on the surface, gutters filled; the normal map starts flat."""
    material = bake_attributes(vertices, triangles, texels, lambda positions: torch.cat(field(positions), dim=1))
    return functional.pad(material, (0, CHANNELS - material.shape[-1]))


def bake_attributes(
    attributes: Tensor, triangles: Tensor, texels: TexelMap, paint: Callable[[Tensor], Tensor] = lambda values: values
) -> Tensor:
    """Texels [H, W, C] of vertex `attributes` [V, A] on the surface, gutters filled.

    Args:
        paint: makes texels [N, C] of the interpolated attributes [N, A] of some of them.
    """
    device = attributes.device
    covered = torch.from_numpy(np.flatnonzero(texels.triangle_ids.reshape(-1) >= 0)).to(device)  # [N]
    corners = triangles[torch.from_numpy(texels.triangle_ids.reshape(-1)).to(device)[covered].long()].long()  # [N, 3]
    weights = torch.from_numpy(texels.barycentrics.reshape(-1, 2)).to(device)[covered]
    weights = torch.cat((weights, 1 - weights.sum(1, keepdim=True)), dim=1)
    parts = zip(corners.split(POINTS_AT_ONCE), weights.split(POINTS_AT_ONCE), strict=True)
    painted = torch.cat([paint((attributes[around] * shares[..., None]).sum(1)) for around, shares in parts])
    values = painted.new_zeros(texels.triangle_ids.size, painted.shape[1])
    values[covered] = painted
    nearest = torch.from_numpy(texels.nearest.reshape(-1)).to(device)
    return values[nearest].reshape(*texels.triangle_ids.shape, painted.shape[1])


def make_asset(
    mesh: TexturedMesh, uvs: np.ndarray, textures: Tensor, environment: Tensor, texels: TexelMap, name: str
) -> Asset:
    """The finished asset.

    Args:
        uvs: [T, 3, 2] float32.
        textures: [H, W, 7], activated.
        environment: [h, 2h, 3] lat-long, linear.
        texels: which texels charts cover; the rest repeats the nearest of them.
    """
    values = textures.detach().cpu().numpy().reshape(-1, CHANNELS)[texels.nearest.reshape(-1)].reshape(textures.shape)
    xy = values[..., 5:]
    z = np.sqrt(np.clip(1 - (xy**2).sum(-1, keepdims=True), 1e-6, None))
    normal = np.concatenate((xy, z), axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return Asset(
        vertices=mesh.vertices.detach().cpu().numpy(),
        triangles=mesh.triangles.cpu().numpy(),
        normals=mesh.normals.detach().cpu().numpy(),
        uvs=uvs.astype(np.float32),
        base_color=values[..., :3].clip(0, 1),
        roughness=values[..., 3].clip(MIN_ROUGHNESS, 1),
        metallic=values[..., 4].clip(0, 1),
        normal_map=normal.astype(np.float32),
        environment=environment.detach().cpu().numpy().clip(0),
        name=name,
    )
