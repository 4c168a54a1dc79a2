# SPDX-License-Identifier: GPL-3.0-or-later
"""Small meshes in clip space for the rasterisation tests, and one gradient helper."""

from __future__ import annotations

from collections.abc import Callable

import torch

from backend.kernels.timing import project, sphere, sphere_view

__all__ = ["finite_difference", "leaf", "project", "soup", "sphere", "sphere_view"]


def soup(seed: int, views: int, count: int, nearest: float, size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Random separate triangles between the distances `nearest` (may be negative: behind the camera) and 6."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(views, count, 1, 3, generator=generator) * 2 - 1
    distance = nearest + (6 - nearest) * torch.rand(views, count, 1, 1, generator=generator)
    centers = torch.cat([centers[..., :2] * (distance.abs() * 0.6 + 0.1), -distance], dim=-1)
    corners = centers + size * (torch.rand(views, count, 3, 3, generator=generator) * 2 - 1)
    triangles = torch.randperm(3 * count, generator=generator).view(count, 3).to(torch.int32)
    return project(corners.view(views, 3 * count, 3)), triangles


def leaf(tensor: torch.Tensor, like: str | torch.dtype) -> torch.Tensor:
    """A copy on a device or of another type that collects its own gradient."""
    return tensor.detach().clone().to(like).requires_grad_()


def finite_difference(
    function: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, direction: torch.Tensor, step: float
) -> float:
    """Central difference in float64 of a scalar function along a direction."""
    at, direction = at.double(), direction.double()
    return float((function(at + step * direction) - function(at - step * direction)) / (2 * step))
