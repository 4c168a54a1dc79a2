# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasterisation by computing the weights of every triangle at every pixel. Slow; any float type; differentiable."""

import torch


def pixel_centers(resolution: tuple[int, int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[H, W, 2] pixel centers in normalized device coordinates; row 0 is the top."""
    height, width = resolution
    x = (torch.arange(width, dtype=dtype, device=device) + 0.5) * (2 / width) - 1
    y = 1 - (torch.arange(height, dtype=dtype, device=device) + 0.5) * (2 / height)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def weights_at(corners: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Weights of three corners whose sum projects onto a pixel.

    They solve sum_k b_k (x_k - p_x w_k) = 0 and sum_k b_k (y_k - p_y w_k) = 0, so b is perpendicular to both rows, and
    sum_k b_k = 1.

    Args:
        corners: [..., 3, 4] clip positions.
        pixels: [..., 2] normalized device coordinates.

    Returns:
        [..., 3]; not finite where the triangle is seen edge-on.
    """
    x, y, _, w = corners.unbind(-1)  # [..., 3]
    b = torch.linalg.cross(x - pixels[..., 0:1] * w, y - pixels[..., 1:2] * w)
    return b / b.sum(-1, keepdim=True)


def depth_layers(
    clip: torch.Tensor, triangles: torch.Tensor, resolution: tuple[int, int], slack: float = 0.0
) -> torch.Tensor:
    """[B, T, H, W] z/w of each triangle at each pixel center, infinite where the triangle does not cover it.

    A positive `slack` widens the triangles: weights down to -slack count as inside.
    """
    pixels = pixel_centers(resolution, clip.dtype, clip.device)
    corners = clip[:, triangles.long()]  # [B, T, 3, 4]
    weights = weights_at(corners[:, :, None, None], pixels.expand(*corners.shape[:2], *pixels.shape))
    z, w = (weights[..., None, :] @ corners[:, :, None, None, :, 2:])[..., 0, :].unbind(-1)
    depth = z / w
    inside = (weights >= -slack).all(-1) & (w > 1e-8) & (depth.abs() <= 1 + slack)
    return torch.where(inside & depth.isfinite(), depth, torch.inf)


def rasterize(clip: torch.Tensor, triangles: torch.Tensor, resolution: tuple[int, int]) -> torch.Tensor:
    """As `backend.kernels.rasterize.rasterize`."""
    if triangles.shape[0] == 0:
        return torch.full((clip.shape[0], *resolution), -1, dtype=torch.int32, device=clip.device)
    depth, ids = depth_layers(clip, triangles, resolution).min(dim=1)
    return torch.where(depth.isfinite(), ids, -1).to(torch.int32)


def barycentrics(clip: torch.Tensor, triangles: torch.Tensor, triangle_ids: torch.Tensor) -> torch.Tensor:
    """As `backend.kernels.barycentrics.barycentrics`."""
    resolution = (triangle_ids.shape[1], triangle_ids.shape[2])
    pixels = pixel_centers(resolution, clip.dtype, clip.device).expand(*triangle_ids.shape, 2)
    seen = triangle_ids >= 0
    view = torch.nonzero(seen)[:, 0]
    corners = clip[view[:, None], triangles[triangle_ids[seen].long()].long()]  # [P, 3, 4]
    result = torch.zeros(*triangle_ids.shape, 2, dtype=clip.dtype, device=clip.device)
    return result.masked_scatter(seen[..., None], weights_at(corners, pixels[seen])[:, :2])
