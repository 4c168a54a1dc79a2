# SPDX-License-Identifier: GPL-3.0-or-later
import math

import pytest
import torch
import trimesh

from backend.geometry import cleaning, mesh
from backend.geometry.band import Band, Grid
from backend.geometry.closest_point import ClosestPoint
from backend.geometry.isosurface import extract
from backend.geometry.remesh import remesh
from tests.geometry.mesh_checks import check


def blobs(cells: int, noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """The dual surface of blended spheres, as uneven as reconstruction makes them."""
    torch.manual_seed(0)
    grid = Grid.around(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), cells)
    points = grid.all_positions(torch.device("cpu"))
    centers = torch.tensor([[-0.35, 0, 0], [0.3, 0.1, 0.1], [0.0, -0.3, 0.3]])
    sdf = -torch.logsumexp(-12 * (torch.cdist(points, centers) - 0.4), dim=1) / 12
    sdf = sdf + noise * grid.cell_size * torch.randn_like(sdf)
    band = Band.around_surface(sdf.reshape(grid.shape), grid)
    vertices, triangles = extract(sdf[band.vertices], band)
    return cleaning.clean(vertices, triangles)


def angles(vertices: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    """Interior angles [T, 3], degrees."""
    corners = vertices[triangles.long()]  # [T, 3, 3]
    ahead, behind = (corners.roll(by, 1) - corners for by in (-1, 1))
    return torch.rad2deg(torch.atan2(torch.linalg.cross(ahead, behind).norm(dim=-1), (ahead * behind).sum(-1)))


def distance(points: torch.Tensor, vertices: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    return (ClosestPoint(vertices, triangles)(points)[0] - points).norm(dim=1)


def turned_over(before: tuple[torch.Tensor, torch.Tensor], after: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Share of triangles that face away from the input's closest triangle."""
    centers = after[0][after[1].long()].mean(1)
    nearest = ClosestPoint(*before)(centers)[1].long()
    old, new = mesh.face_normals(*before)[nearest], mesh.face_normals(*after)
    return float(((old * new).sum(1) < 0).float().mean())


def test_no_rounds_leave_the_isosurface_as_it_is():
    before = blobs(24)
    after = remesh(*before, target_triangles=100, iterations=0)
    assert len(after[1]) == len(before[1]) and check(*after).closed
    moved = distance(after[0], *before)  # where a triangle had folded over
    assert moved.quantile(0.98) < 1e-5 and moved.max() < 0.5 * 2 / 24


@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_isosurface_becomes_even(noise: float):
    before = blobs(40, noise)
    after = remesh(*before, target_triangles=len(before[1]))
    checks = check(*after)
    assert checks.closed and not checks.degenerate_triangles and not checks.duplicate_triangles
    assert checks.components == check(*before).components
    assert abs(len(after[1]) / len(before[1]) - 1) < 0.15
    edges = mesh.unique_edges(after[1]).vertices
    lengths = (after[0][edges[:, 0]] - after[0][edges[:, 1]]).norm(dim=1)
    assert lengths.std() / lengths.mean() < 0.17
    assert angles(*after).quantile(0.01) > 30 > angles(*before).quantile(0.01)
    assert angles(*after).min() > (5 if noise == 0 else 0)
    assert distance(after[0], *before).max() < 0.05 * lengths.mean()
    assert distance(before[0], *after).max() < (0.2 if noise == 0 else 0.8) * lengths.mean()
    assert turned_over(before, after) <= (0 if noise == 0 else 1e-3)


@pytest.mark.parametrize("factor", [0.2, 3.0])
def test_count_follows_the_target(factor: float):
    before = blobs(24)
    wanted = int(len(before[1]) * factor)
    after = remesh(*before, target_triangles=wanted)
    assert abs(len(after[1]) / wanted - 1) < 0.15
    assert check(*after).closed


def test_edge_length_is_in_world_units():
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=50.0)
    vertices = torch.tensor(sphere.vertices, dtype=torch.float32) + torch.tensor([1000.0, 0, 0])
    after = remesh(vertices, torch.tensor(sphere.faces), target_edge=8.0)
    edges = mesh.unique_edges(after[1]).vertices
    lengths = (after[0][edges[:, 0]] - after[0][edges[:, 1]]).norm(dim=1)
    assert abs(lengths.mean() - 8.0) < 1.0
    assert ((after[0] - torch.tensor([1000.0, 0, 0])).norm(dim=1) - 50).abs().max() < 0.5


def test_creases_and_corners_stay():
    cube = trimesh.creation.box().subdivide().subdivide().subdivide()
    vertices, triangles = torch.tensor(cube.vertices, dtype=torch.float32), torch.tensor(cube.faces)
    after = remesh(vertices, triangles, target_edge=0.1)
    volume = (after[0][after[1]][:, 0] * mesh.face_normals(*after)).sum() / 6
    assert abs(float(volume) - 1) < 1e-3
    for corner in trimesh.creation.box().vertices:
        assert (after[0] - torch.tensor(corner, dtype=torch.float32)).norm(dim=1).min() < 1e-5


def test_border_stays():
    size = 12
    index = torch.arange(size * size).reshape(size, size)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = torch.cat([torch.stack(x, -1).reshape(-1, 3) for x in ((a, c, b), (a, d, c))])
    flat = torch.arange(size * size)
    vertices = torch.stack([flat // size, flat % size, torch.zeros_like(flat)], -1).float()
    for edge in (0.5, 2.0):
        after = remesh(vertices, triangles, target_edge=edge)
        checks = check(*after)
        assert checks.manifold and checks.components == 1 and checks.boundary_edges > 0
        assert abs(float(mesh.face_areas(*after).sum()) - 121) < 0.5


def test_tetrahedron_and_empty_mesh_survive():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    triangles = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    after = remesh(vertices, triangles, target_edge=5.0)
    assert check(*after).closed and len(after[1]) == 4 and after[1].dtype == torch.int32
    assert len(remesh(vertices[:0], triangles[:0], target_triangles=100)[1]) == 0


def test_time_limit_returns_a_sound_mesh():
    before = blobs(24)
    after = remesh(*before, target_triangles=len(before[1]), time_limit_s=0.0)
    assert check(*after).closed and math.isfinite(float(after[0].sum()))
