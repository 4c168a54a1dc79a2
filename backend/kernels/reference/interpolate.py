# SPDX-License-Identifier: GPL-3.0-or-later
"""Interpolation of vertex attributes by gathering them. Slow; any float type; differentiable."""

import torch


def interpolate(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_ids: torch.Tensor, barycentrics: torch.Tensor
) -> torch.Tensor:
    """As `backend.kernels.interpolate.interpolate`."""
    if attributes.ndim == 3:
        views = zip(attributes, triangle_ids, barycentrics, strict=True)
        return torch.stack([interpolate(a, triangles, ids, b) for a, ids, b in views])
    if triangles.shape[0] == 0:
        return attributes.new_zeros(*triangle_ids.shape, attributes.shape[-1])
    corners = attributes[triangles[triangle_ids.clamp(min=0).long()].long()]  # [..., 3, C]
    weights = torch.cat([barycentrics, 1 - barycentrics.sum(-1, keepdim=True)], dim=-1)
    values = (weights[..., None] * corners).sum(-2)
    return torch.where(triangle_ids[..., None] >= 0, values, 0)
