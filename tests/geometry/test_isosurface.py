# SPDX-License-Identifier: GPL-3.0-or-later
"""Dual marching cubes on analytic shapes and on noise: closed, outward, accurate, differentiable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.geometry.band import Band, Grid
from backend.geometry.isosurface import extract

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])

Shape = Callable[[Tensor], Tensor]


def sphere(p: Tensor) -> Tensor:
    return (p - torch.tensor([0.03, -0.05, 0.02])).norm(dim=-1) - 0.7


def torus(p: Tensor) -> Tensor:
    ring = p[..., :2].norm(dim=-1) - 0.6
    return torch.stack((ring, p[..., 2]), -1).norm(dim=-1) - 0.25


def two_balls(p: Tensor) -> Tensor:
    first, second = p - torch.tensor([0.5, 0.0, 0.0]), p + torch.tensor([0.5, 0.0, 0.0])
    return torch.minimum(first.norm(dim=-1), second.norm(dim=-1)) - 0.35


def blobs(p: Tensor) -> Tensor:
    """Two balls that just touch, along a diagonal of the grid so that the neck is seen at odd angles."""
    center = torch.tensor([0.31, 0.27, 0.23])
    return torch.minimum((p - center).norm(dim=-1), (p + center).norm(dim=-1)) - float(center.norm()) - 0.004


def mesh_of(shape: Shape, cells: int) -> tuple[Tensor, Tensor, Tensor, Band, Grid]:
    """Vertices, triangles, the values they come from, their band and grid."""
    grid = Grid.around(BOX, cells)
    field = shape(grid.all_positions(torch.device("cpu"))).view(grid.shape)
    band = Band.around_surface(field, grid)
    values = field.reshape(-1)[band.vertices]
    vertices, triangles = extract(values, band)
    return vertices, triangles, values, band, grid


def directed_edges(triangles: Tensor) -> np.ndarray:
    """[3T, 2], each triangle's edges in its own direction."""
    faces = triangles.numpy().astype(np.int64)
    return np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))


def assert_closed_and_oriented(triangles: Tensor) -> None:
    """Each edge is run along as often in one direction as in the other: no border, no flipped neighbor."""
    pairs = directed_edges(triangles)
    forward, counts = np.unique(pairs, axis=0, return_counts=True)
    backward, opposite = np.unique(pairs[:, ::-1], axis=0, return_counts=True)
    assert np.array_equal(forward, backward) and np.array_equal(counts, opposite)


def euler_number(vertices: Tensor, triangles: Tensor) -> int:
    edges = np.unique(np.sort(directed_edges(triangles), axis=1), axis=0)
    return len(vertices) - len(edges) + len(triangles)


def volume(vertices: Tensor, triangles: Tensor) -> Tensor:
    a, b, c = vertices[triangles.long()].unbind(1)
    return (a * torch.linalg.cross(b, c)).sum() / 6


@pytest.mark.parametrize(
    ("shape", "euler", "exact_volume"),
    [
        (sphere, 2, 4 / 3 * np.pi * 0.7**3),
        (torus, 0, 2 * np.pi**2 * 0.6 * 0.25**2),
        (two_balls, 4, 2 * 4 / 3 * np.pi * 0.35**3),
    ],
    ids=["sphere", "torus", "two balls"],
)
def test_known_shapes_have_their_topology_and_volume(shape: Shape, euler: int, exact_volume: float) -> None:
    vertices, triangles, *_ = mesh_of(shape, 40)
    assert_closed_and_oriented(triangles)
    assert triangles.dtype == torch.int32 and vertices.dtype == torch.float32
    assert np.array_equal(np.unique(triangles.numpy()), np.arange(len(vertices)))
    assert euler_number(vertices, triangles) == euler
    # Positive: counter-clockwise seen from outside. An inscribed surface lacks a little.
    assert float(volume(vertices, triangles)) == pytest.approx(exact_volume, rel=0.03)


def test_every_triangle_of_a_sphere_faces_outward() -> None:
    vertices, triangles, *_ = mesh_of(sphere, 30)
    a, b, c = (vertices[triangles.long()] - torch.tensor([0.03, -0.05, 0.02])).unbind(1)
    outward = (torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(-1)
    assert bool((outward > 0).all())


@pytest.mark.parametrize("shape", [sphere, torus], ids=["sphere", "torus"])
def test_vertex_error_falls_with_the_square_of_the_cell(shape: Shape) -> None:
    errors = []
    for cells in (16, 32, 64):
        vertices, *_, grid = mesh_of(shape, cells)
        errors.append(float(shape(vertices).abs().max()))
        assert errors[-1] < 0.35 * grid.cell_size  # not much beyond the sagitta of a cell
    assert errors[1] < errors[0] / 2.5 and errors[2] < errors[1] / 2.5


def test_touching_blobs_stay_closed() -> None:
    for cells in (17, 24, 31):
        vertices, triangles, *_ = mesh_of(blobs, cells)
        assert_closed_and_oriented(triangles)
        assert float(volume(vertices, triangles)) > 0


@pytest.mark.parametrize("seed", range(6))
def test_noise_gives_a_closed_surface(seed: int) -> None:
    """All 256 cell configurations next to all others: every edge is shared by an even number of triangles."""
    grid = Grid((0.0, 0.0, 0.0), 1.0, (10, 9, 11))
    field = torch.ones(grid.shape)
    noise = torch.randn(8, 7, 9, generator=torch.Generator().manual_seed(seed))
    field[1:-1, 1:-1, 1:-1] = noise
    band = Band.around_surface(field, grid)
    vertices, triangles = extract(field.reshape(-1)[band.vertices], band)
    assert_closed_and_oriented(triangles)
    assert bool(torch.isfinite(vertices).all())
    assert np.array_equal(np.unique(triangles.numpy()), np.arange(len(vertices)))
    # Each vertex stays in its cell, so no triangle reaches further than two.
    spread = vertices[triangles.long()]
    assert float((spread.amax(1) - spread.amin(1)).max()) <= 2.0


def test_all_sign_configurations_of_one_cell_make_sheets_with_their_own_vertices() -> None:
    """Two opposite corners inside are two pieces, never one pinched vertex; so are two opposite corners outside."""
    grid = Grid((0.0, 0.0, 0.0), 1.0, (4, 4, 4))
    for background, pieces in ((1.0, 2), (-1.0, 2)):
        field = torch.full(grid.shape, background)
        field[1, 1, 1] = field[2, 2, 2] = -background
        band = Band.around_surface(field, grid)
        vertices, triangles = extract(field.reshape(-1)[band.vertices], band)
        assert_closed_and_oriented(triangles)
        assert euler_number(vertices, triangles) == 2 * pieces
        assert np.sign(float(volume(vertices, triangles))) == background


def test_empty_fields_give_empty_meshes() -> None:
    grid = Grid.around(BOX, 8)
    for value in (1.0, -1.0):
        field = torch.full(grid.shape, value)
        vertices, triangles = extract(torch.empty(0), Band.around_surface(field, grid))
        assert vertices.shape == (0, 3) and triangles.shape == (0, 3)
    # A band from an earlier step whose surface has vanished since.
    *_, band, _ = mesh_of(sphere, 12)
    vertices, triangles = extract(torch.ones(len(band.vertices)), band)
    assert vertices.shape == (0, 3) and triangles.shape == (0, 3)


def test_zeros_count_as_outside_and_stay_finite() -> None:
    grid = Grid((0.0, 0.0, 0.0), 1.0, (6, 6, 6))
    field = torch.ones(grid.shape)
    field[2:4, 2:4, 2:4] = -1.0
    field[1, 2:4, 2:4] = 0.0
    band = Band.around_surface(field, grid)
    values = field.reshape(-1)[band.vertices].requires_grad_()
    vertices, triangles = extract(values, band)
    vertices.square().sum().backward()
    assert_closed_and_oriented(triangles)
    assert values.grad is not None and bool(torch.isfinite(values.grad).all())
    assert float(vertices.detach()[:, 0].min()) >= 1.0


def test_gradient_equals_finite_differences() -> None:
    _, triangles, values, band, _ = mesh_of(blobs, 10)
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(int(triangles.max()) + 1, 3, generator=generator)
    values = values.clone().requires_grad_()
    (extract(values, band)[0] * weights).sum().backward()
    assert values.grad is not None
    checked = torch.nonzero(values.grad.abs() > 0.1)[:, 0][::5]
    assert len(checked) > 20

    def moved(index: int, step: float) -> float:
        shifted = values.detach().clone()
        shifted[index] += step
        assert bool(((shifted < 0) == (values < 0)).all())
        return float((extract(shifted, band)[0].double() * weights).sum())

    for index in checked.tolist():
        # Small beside the distance to the sign change, where a vertex jumps to another edge.
        step = min(1e-3, 0.02 * float(values[index].detach().abs()))
        if step < 1e-4:
            continue
        numeric = (moved(index, step) - moved(index, -step)) / (2 * step)
        assert numeric == pytest.approx(float(values.grad[index]), rel=0.03, abs=0.03)


def test_vertices_follow_the_radius_of_a_sphere() -> None:
    """Lowering the field by r everywhere grows a sphere by r: each vertex moves outward at speed about one."""
    vertices, _, values, band, _ = mesh_of(sphere, 24)
    growth = torch.zeros((), requires_grad=True)
    grown, _ = extract(values - growth, band)
    radius = (grown - torch.tensor([0.03, -0.05, 0.02])).norm(dim=-1)
    speeds = torch.autograd.grad(radius.mean(), growth, retain_graph=True)[0]
    assert float(speeds) == pytest.approx(1.0, abs=0.02)
    one = torch.autograd.grad(radius[len(vertices) // 3], growth)[0]
    assert float(one) == pytest.approx(1.0, abs=0.15)
