# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a finished asset as the optimiser saw it, from nothing but what the result folder holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.color import linear_to_srgb
from ..appearance.environment import latlong_to_cube, prefilter
from ..appearance.fragments import Fragments
from ..appearance.local_light import LocalLight
from ..appearance.pixel_filter import FILTER_WIDTH, MIN_ALPHA, filter_pixels, sample_intrinsics
from ..appearance.projection import world_to_clip
from ..appearance.textured_mesh import SurfacePoints, TexturedMesh, shade
from ..appearance.transport import Transport

if TYPE_CHECKING:
    from .asset import Asset

LIGHT_SIZE = 32  # texels along a face of the environment's cube


class AssetRenderer:
    """Rasterises an asset and shades it with the split-sum approximation, traced shadows and two bounces.

    Args:
        asset: what to render.
        device: where.
        supersampling: image samples along each side of a pixel.
        transport_size: side of the cube of shadow directions.
        filter_width: of the pixel filter, pixels.
    """

    def __init__(
        self,
        asset: Asset,
        device: torch.device | str,
        supersampling: int = 2,
        transport_size: int = 8,
        filter_width: float = FILTER_WIDTH,
    ) -> None:
        self.device = torch.device(device)
        vertices, triangles, normals = (
            torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
            for x in (asset.vertices, asset.triangles, asset.normals)
        )
        self.mesh = TexturedMesh.of(vertices, triangles, normals, asset.uvs)
        channels = (asset.base_color, asset.roughness[..., None], asset.metallic[..., None], asset.normal_map[..., :2])
        self.textures = torch.from_numpy(np.concatenate(channels, axis=-1)).to(self.device)  # [H, W, 7]
        self.environment = torch.from_numpy(asset.environment).to(self.device)
        self.supersampling = supersampling
        self.filter_width = filter_width
        self.transport = Transport.trace(vertices, normals, triangles, transport_size, bounce=True)
        self.vertex_color = self._vertex_color(asset)
        self.near = float(np.ptp(asset.vertices, axis=0).max()) * 1e-3
        self._last: tuple[Tensor, Callable[[Fragments], LocalLight]] | None = None

    def _vertex_color(self, asset: Asset) -> Tensor:
        """Base color [V, 3] at the vertices, from the nearest texel."""
        height, width = asset.base_color.shape[:2]
        columns = np.clip(asset.uvs[..., 0] * width, 0, width - 1).astype(np.int64)
        rows = np.clip((1 - asset.uvs[..., 1]) * height, 0, height - 1).astype(np.int64)
        color = np.zeros_like(asset.vertices)
        color[asset.triangles.reshape(-1)] = asset.base_color[rows, columns].reshape(-1, 3)
        return torch.from_numpy(color).to(self.device)

    @torch.no_grad()
    def _lit_by(self, latlong: Tensor) -> Callable[[Fragments], LocalLight]:
        """A light [h, w, 3] at any fragments; the last is kept, for most images come in rows under one light."""
        if self._last is None or self._last[0] is not latlong:
            base = latlong_to_cube(latlong.to(self.device), LIGHT_SIZE)
            filtered = prefilter(base)
            transport = self.transport.toward(base)
            arriving = transport.light_vertices(filtered, base, self.vertex_color)
            lit = partial(LocalLight.at, transport=transport, environment=filtered, arriving=arriving)
            self._last = latlong, lit
        return self._last[1]

    @torch.no_grad()
    def render(
        self,
        cam_to_world: Tensor,
        intrinsics: Tensor,
        resolution: tuple[int, int],
        environment: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Images of B views.

        Args:
            cam_to_world: [B, 4, 4], OpenGL axes.
            intrinsics: [B, 4] fx fy cx cy, pixels of `resolution` (height, width).
            environment: [h, w, 3] lat-long, linear; None for the asset's own.

        Returns:
            color [B, H, W, 3] sRGB-encoded straight, alpha [B, H, W, 1], base_color (linear), roughness, metallic,
            normal (world), all float32.
        """
        k = self.supersampling
        size = (resolution[0] * k, resolution[1] * k)
        poses = cam_to_world.to(self.device).float()
        intrinsics = sample_intrinsics(intrinsics.to(self.device).float(), k)
        matrices = world_to_clip(poses, intrinsics, size, self.near)
        fragments = Fragments.of(self.mesh.vertices, self.mesh.triangles, matrices, poses[:, :3, 3], size)
        light = self._lit_by(self.environment if environment is None else environment)(fragments)
        points = SurfacePoints.of(self.mesh, fragments)
        radiance, material, normals = shade(self.textures, points, light)
        ones = torch.ones_like(radiance[:, :1])
        values = torch.cat((radiance, *material, normals, ones), dim=-1)  # [P, 12]
        image = filter_pixels(fragments.antialiased(values, self.mesh.neighbors), k, self.filter_width)
        alpha = image[..., 11:]
        straight = image[..., :11] / alpha.clamp(min=MIN_ALPHA)
        return {
            "color": linear_to_srgb(straight[..., :3].clamp(0, 1)),
            "alpha": alpha,
            "base_color": straight[..., 3:6],
            "roughness": straight[..., 6:7],
            "metallic": straight[..., 7:8],
            "normal": functional.normalize(straight[..., 8:11], dim=-1),
        }
