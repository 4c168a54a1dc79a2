# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry of the cube map [6, R, R, C]: directions, solid angles, and resampling with constant weights.

Faces +x −x +y −y +z −z in world axes; a = 2(j + 0.5)/R − 1 along columns and b = 2(i + 0.5)/R − 1 along rows:
+x (1, a, b), −x (−1, a, b), +y (a, 1, b), −y (a, −1, b), +z (a, b, 1), −z (a, b, −1).
"""

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor


def cube_directions(resolution: int, subdivisions: int = 1, normalized: bool = True) -> Tensor:
    """Texel center directions [6·R·R, 3] float32, or with `subdivisions` s those of s × s sub-texels
    [6·R·R, s·s, 3]."""
    r, s = resolution, subdivisions
    grid = (torch.arange(r * s) + 0.5) * (2.0 / (r * s)) - 1.0
    b, a = torch.meshgrid(grid, grid, indexing="ij")
    one = torch.ones_like(a)
    faces = [(one, a, b), (-one, a, b), (a, one, b), (a, -one, b), (a, b, one), (a, b, -one)]
    directions = torch.stack([torch.stack(face, -1) for face in faces])  # [6, Rs, Rs, 3]
    if normalized:
        directions = F.normalize(directions, dim=-1)
    directions = directions.reshape(6, r, s, r, s, 3).permute(0, 1, 3, 2, 4, 5).reshape(6 * r * r, s * s, 3)
    return directions[:, 0] if s == 1 else directions


def cube_solid_angles(resolution: int, subdivisions: int = 1) -> Tensor:
    """Exact solid angles in steradians, [6·R·R] float32, or [6·R·R, s·s] of sub-texels; they sum to 4π."""
    r, s = resolution, subdivisions
    edge = torch.linspace(-1.0, 1.0, r * s + 1, dtype=torch.float64)
    y, x = torch.meshgrid(edge, edge, indexing="ij")
    corner = torch.atan2(x * y, (x * x + y * y + 1.0).sqrt())
    face = corner[1:, 1:] - corner[1:, :-1] - corner[:-1, 1:] + corner[:-1, :-1]  # [Rs, Rs]
    face = face.reshape(r, s, r, s).permute(0, 2, 1, 3).reshape(r * r, s * s)
    angles = face.repeat(6, 1).float()
    return angles[:, 0] if s == 1 else angles


def cube_coordinates(directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Face [P] int64 and coordinates a, b [P] in [−1, 1] of directions [P, 3] of any length."""
    magnitude = directions.detach().abs()
    axis = magnitude.argmax(-1, keepdim=True)  # [P, 1]
    major = directions.gather(-1, axis)
    others = torch.tensor([[1, 2], [0, 2], [0, 1]], device=directions.device)[axis[:, 0]]  # [P, 2]
    a, b = (directions.gather(-1, others) / major.abs().clamp_min(1e-20)).unbind(-1)
    face = 2 * axis[:, 0] + (major[:, 0] < 0)
    return face, a, b


def downsample(cube: Tensor, resolution: int) -> Tensor:
    """Mean radiance over groups of texels, weighted by solid angle: [6, R, R, C] -> [6, r, r, C], r divides R."""
    size, channels = cube.shape[1], cube.shape[-1]
    if size == resolution:
        return cube
    k = size // resolution
    assert k * resolution == size
    weights = _downsample_weights(size, resolution, cube.device)  # [1, r, k, r, k, 1]
    return (cube.reshape(6, resolution, k, resolution, k, channels) * weights).sum((2, 4))


@functools.cache
def _downsample_weights(size: int, resolution: int, device: torch.device) -> Tensor:
    k = size // resolution
    fine = cube_solid_angles(size)[: size * size].reshape(resolution, k, resolution, k)
    return (fine / fine.sum((1, 3), keepdim=True))[None, ..., None].to(device)


@functools.cache
def _padded_index(resolution: int, device: torch.device) -> Tensor:
    """Flat texel index [6, R + 2, R + 2] of each texel and of the ring around each face, taken from its neighbors."""
    r = resolution
    grid = (torch.arange(-1, r + 1) + 0.5) * (2.0 / r) - 1.0
    b, a = torch.meshgrid(grid, grid, indexing="ij")
    # On the ring, the texel across the edge is the one at the same distance along it: fold the overshoot down.
    inside_a, inside_b = a.clamp(-1.0, 1.0), b.clamp(-1.0, 1.0)
    one = torch.where((a.abs() > 1) | (b.abs() > 1), 1.0 - 1.0 / r, 1.0)
    a, b = inside_a, inside_b
    faces = [(one, a, b), (-one, a, b), (a, one, b), (a, -one, b), (a, b, one), (a, b, -one)]
    directions = torch.stack([torch.stack(face, -1) for face in faces]).reshape(-1, 3)
    # A ring corner has no texel of its own; it takes one of its two neighbors.
    return cube_texels(directions, r).reshape(6, r + 2, r + 2).to(device)


def with_ring(cube: Tensor) -> Tensor:
    """Each face of [6, R, R, C] with the texels around it, taken from its neighbors: [6, R + 2, R + 2, C]."""
    index = _padded_index(cube.shape[1], cube.device)
    return cube.reshape(-1, cube.shape[-1]).index_select(0, index.view(-1)).view(*index.shape, cube.shape[-1])


def bilinear_stencil(directions: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Flat texel indices [P, 4] and weights [P, 4] of the seamless bilinear lookup in one cube [6, R, R, C]."""
    r = resolution
    padded = _padded_index(r, directions.device).reshape(-1)
    face, a, b = cube_coordinates(directions)
    x = (a + 1.0) * (0.5 * r) + 0.5
    y = (b + 1.0) * (0.5 * r) + 0.5
    column = x.detach().floor().long().clamp(0, r)
    row = y.detach().floor().long().clamp(0, r)
    fx, fy = x - column, y - row
    corner = (face * (r + 2) + row) * (r + 2) + column
    index = padded[torch.stack([corner, corner + 1, corner + r + 2, corner + r + 3], -1)]
    return index, torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], -1)


def sample_cube_bilinear(cube: Tensor, directions: Tensor) -> Tensor:
    """Seamless bilinear lookup of directions [P, 3] in a cube [6, R, R, C] -> [P, C]; differentiable in both."""
    index, weights = bilinear_stencil(directions, cube.shape[1])
    return F.embedding_bag(index, cube.reshape(-1, cube.shape[-1]), mode="sum", per_sample_weights=weights)


def sample_vertex_cubes(
    cubes: Tensor,
    triangles: Tensor,
    triangle_ids: Tensor,
    barycentrics: Tensor,
    directions: Tensor,
    sides: Tensor,
    firsts: Tensor,
) -> Tensor:
    """Cubes at the vertices of a mesh, in one direction per point: bilinear on a face, and not beyond it.

    Args:
        cubes: [V, N, C], the texels at each vertex, of any type; several cubes may lie end to end.
        triangles: [T, 3] int32.
        triangle_ids: [P] int32.
        barycentrics: [P, 2] float32, weights of corners 0 and 1.
        directions: [P, 3] float32, of any length.
        sides: [P] or scalar, int64, of a face of the cube to read.
        firsts: [P] or scalar, int64, where among the N texels it begins.

    Returns:
        [P, C] float32, no gradient.
    """
    with torch.no_grad():
        corners = triangles[triangle_ids.long()].long()  # [P, 3]
        last = 1 - barycentrics.sum(-1, keepdim=True)
        weights = torch.cat((barycentrics, last), dim=-1)[..., None]  # [P, 3, 1]
        face, a, b = cube_coordinates(directions)
        column = ((a + 1) / 2 * sides - 0.5).clamp(min=0)
        row = ((b + 1) / 2 * sides - 0.5).clamp(min=0)
        column0 = torch.minimum(column.long(), sides - 1)
        row0 = torch.minimum(row.long(), sides - 1)
        column1, row1 = torch.minimum(column0 + 1, sides - 1), torch.minimum(row0 + 1, sides - 1)
        fx, fy = column - column0, row - row0
        begin = firsts + face * sides * sides
        result = torch.zeros(len(face), cubes.shape[-1], device=cubes.device)
        for r, c, weight in (
            (row0, column0, (1 - fx) * (1 - fy)),
            (row0, column1, fx * (1 - fy)),
            (row1, column0, (1 - fx) * fy),
            (row1, column1, fx * fy),
        ):
            texel = begin + r * sides + c  # [P]
            result += weight[:, None] * (cubes[corners, texel[:, None]].float() * weights).sum(1)
        return result


@functools.cache
def cube_symmetries(resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """The 48 symmetries of the cube acting on texels; what depends on an angle only need be computed for one in 48.

    Returns:
        permutations: [48, 6·R·R] int64, texel that each texel is moved to.
        symmetry: [6·R·R] int64, one that moves the texel into the wedge x >= y >= z >= 0.
        representative: [6·R·R] int64, the texel of the wedge it is moved to.
    """
    centers = cube_directions(resolution, normalized=False)
    orders = torch.tensor(list(itertools.permutations(range(3))))  # [6, 3]
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=3)))  # [8, 3]
    permutations = torch.stack([cube_texels((centers * s)[:, o], resolution) for o in orders for s in signs])
    order = centers.abs().argsort(dim=-1, descending=True, stable=True)
    order_id = (order[:, None] == orders).all(-1).int().argmax(-1)
    sign_id = ((centers < 0) * torch.tensor([4, 2, 1])).sum(-1)
    symmetry = 8 * order_id + sign_id
    return permutations, symmetry, permutations[symmetry, torch.arange(len(centers))]


def cube_texels(directions: Tensor, resolution: int) -> Tensor:
    """Flat index [P] int64 of the texel that each of `directions` [P, 3] points at."""
    face, a, b = cube_coordinates(directions)
    column = ((a + 1.0) * (0.5 * resolution)).floor().long().clamp(0, resolution - 1)
    row = ((b + 1.0) * (0.5 * resolution)).floor().long().clamp(0, resolution - 1)
    return (face * resolution + row) * resolution + column
