# SPDX-License-Identifier: GPL-3.0-or-later
"""Small meshes in clip space for the rasterisation tests, and one gradient helper."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

NEAR, FAR = 0.2, 20.0


def project(points: torch.Tensor) -> torch.Tensor:
    """[..., 3] float32 points in camera space (looking along -z) -> [..., 4] clip, 60 degrees, near 0.2, far 20."""
    x, y, z = points.unbind(-1)
    scale = 1 / math.tan(math.radians(30))
    depth = -(FAR + NEAR) / (FAR - NEAR) * z - 2 * FAR * NEAR / (FAR - NEAR)
    return torch.stack([scale * x, scale * y, depth, -z], dim=-1)


def soup(seed: int, views: int, count: int, nearest: float, size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Random separate triangles between the distances `nearest` (may be negative: behind the camera) and 6."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(views, count, 1, 3, generator=generator) * 2 - 1
    distance = nearest + (6 - nearest) * torch.rand(views, count, 1, 1, generator=generator)
    centers = torch.cat([centers[..., :2] * (distance.abs() * 0.6 + 0.1), -distance], dim=-1)
    corners = centers + size * (torch.rand(views, count, 3, 3, generator=generator) * 2 - 1)
    triangles = torch.randperm(3 * count, generator=generator).view(count, 3).to(torch.int32)
    return project(corners.view(views, 3 * count, 3)), triangles


def sphere(rings: int, segments: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Closed unit sphere: [V, 3] float32, [T, 3] int32 counter-clockwise from outside, vertices shared."""
    polar = torch.linspace(0, math.pi, rings + 1)[1:-1]
    around = torch.arange(segments) * (2 * math.pi / segments)
    p, a = torch.meshgrid(polar, around, indexing="ij")
    body = torch.stack([p.sin() * a.cos(), p.sin() * a.sin(), p.cos()], dim=-1).view(-1, 3)
    vertices = torch.cat([body, torch.tensor([[0.0, 0, 1], [0, 0, -1]])])
    top, bottom = len(body), len(body) + 1
    rows = []
    for s in range(segments):
        n = (s + 1) % segments
        rows.append((top, s, n))
        rows.append((bottom, (rings - 2) * segments + n, (rings - 2) * segments + s))
        for r in range(rings - 2):
            k = r * segments
            rows += [(k + s, k + segments + s, k + segments + n), (k + s, k + segments + n, k + n)]
    return vertices, torch.tensor(rows, dtype=torch.int32)


def sphere_view(seed: int, views: int, rings: int, segments: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere turned and moved at random for each view, three units away: clip [B, V, 4], triangles."""
    generator = torch.Generator().manual_seed(seed)
    vertices, triangles = sphere(rings, segments)
    turns = torch.linalg.qr(torch.randn(views, 3, 3, generator=generator))[0]
    turns = turns * torch.linalg.det(turns)[:, None, None]
    shift = torch.tensor([0.0, 0.0, -3.0]) + 0.2 * torch.randn(views, 1, 3, generator=generator)
    return project(vertices @ turns.transpose(1, 2) + shift), triangles


def leaf(tensor: torch.Tensor, like: str | torch.dtype) -> torch.Tensor:
    """A copy on a device or of another type that collects its own gradient."""
    return tensor.detach().clone().to(like).requires_grad_()


def finite_difference(
    function: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, direction: torch.Tensor, step: float
) -> float:
    """Central difference in float64 of a scalar function along a direction."""
    at, direction = at.double(), direction.double()
    return float((function(at + step * direction) - function(at - step * direction)) / (2 * step))
