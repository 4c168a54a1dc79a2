# SPDX-License-Identifier: GPL-3.0-or-later
"""Lights, points and meshes that several appearance tests share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.appearance.environment import latlong_directions

Mesh = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # vertices, normals, triangles


def studio(height: int = 64) -> Tensor:
    """A lat-long light [h, 2h, 3]: a colored gradient and four soft lamps, of different widths and colors."""
    directions = latlong_directions(height)
    image = (
        0.3
        + directions[..., 2:] * torch.tensor([0.04, 0.1, 0.2])
        + directions[..., :1] * torch.tensor([0.15, 0.05, 0.01])
    )
    lamps = [
        ((0.5, -0.8, 0.6), 40.0, (6.0, 5.0, 4.0)),
        ((-0.7, -0.2, 0.3), 12.0, (0.5, 1.0, 2.0)),
        ((0.2, 0.9, 0.1), 20.0, (2.0, 2.0, 0.5)),
        ((0.8, 0.1, -0.5), 100.0, (1.0, 4.0, 2.0)),
    ]
    for axis, sharpness, color in lamps:
        cos = directions @ F.normalize(torch.tensor(axis), dim=0)
        image = image + torch.exp(sharpness * (cos - 1.0))[..., None] * torch.tensor(color)
    return image


def random_points(count: int, seed: int = 0, grazing: float = 0.2) -> tuple[Tensor, ...]:
    """Base color, roughness, metallic, normal, view of `count` points, none seen at less than `grazing` = n·v."""
    generator = torch.Generator().manual_seed(seed)
    normal = F.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    tangent = F.normalize(torch.linalg.cross(normal, torch.randn(count, 3, generator=generator)), dim=-1)
    cos = grazing + (1.0 - grazing) * torch.rand(count, 1, generator=generator)
    view = cos * normal + (1.0 - cos * cos).sqrt() * tangent
    base_color = torch.rand(count, 3, generator=generator)
    roughness = 0.1 + 0.9 * torch.rand(count, 1, generator=generator)
    metallic = torch.rand(count, 1, generator=generator)
    return base_color, roughness, metallic, normal, view


def sphere_points(pixels: int, edge: float = 0.97) -> tuple[Tensor, Tensor, Tensor]:
    """Mask [S, S] of a sphere filling a square seen along +y, and normals, views [P, 3] at its pixel centers."""
    axis = (torch.arange(pixels) + 0.5) * 2.0 / pixels - 1.0
    z, x = torch.meshgrid(-axis, axis, indexing="ij")
    squared = x * x + z * z
    inside = squared < edge
    normal = torch.stack((x, -(1.0 - squared).clamp_min(0.0).sqrt(), z), -1)[inside]
    return inside, normal, torch.tensor([0.0, -1.0, 0.0]).expand_as(normal)


def patch(center: tuple[float, ...], u: tuple[float, ...], v: tuple[float, ...], cells: int) -> Mesh:
    """A flat grid spanned by the half sides u and v, facing u × v."""
    steps = torch.linspace(-1, 1, cells + 1)
    b, a = torch.meshgrid(steps, steps, indexing="ij")
    half_u, half_v, middle = (torch.tensor(x, dtype=torch.float32) for x in (u, v, center))
    vertices = middle + a.reshape(-1, 1) * half_u + b.reshape(-1, 1) * half_v
    k = (torch.arange(cells)[:, None] * (cells + 1) + torch.arange(cells)).reshape(-1)
    low = torch.stack((k, k + 1, k + cells + 2), 1)
    high = torch.stack((k, k + cells + 2, k + cells + 1), 1)
    normal = F.normalize(torch.linalg.cross(half_u, half_v), dim=0)
    return vertices, normal.repeat(len(vertices), 1), torch.cat((low, high)).int()


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one; the vertices of the first come first."""
    starts = [0]
    for vertices, _, _ in meshes:
        starts.append(starts[-1] + len(vertices))
    return (
        torch.cat([m[0] for m in meshes]),
        torch.cat([m[1] for m in meshes]),
        torch.cat([m[2] + start for m, start in zip(meshes, starts)]),
    )


def nearest(vertices: torch.Tensor, point: tuple[float, ...]) -> int:
    return int((vertices - torch.tensor(point)).norm(dim=-1).argmin())


def under_a_ceiling(half: float = 1.5) -> Mesh:
    floor = patch((0, 0, 0), (1, 0, 0), (0, 1, 0), 4)
    ceiling = patch((0, 0, 1), (0, half, 0), (half, 0, 0), 4)  # faces down
    return joined(floor, ceiling)


def corner() -> Mesh:
    floor = patch((1, 0, 0), (1, 0, 0), (0, 2, 0), 6)
    wall = patch((0, 0, 1), (0, 2, 0), (0, 0, 1), 6)  # faces +x
    return joined(floor, wall)
