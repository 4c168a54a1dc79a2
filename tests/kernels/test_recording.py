# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels of a step can be recorded as a CUDA graph: nothing waits, and a repetition sees new data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from backend.geometry.band import Band, Grid
from backend.kernels.adjacency import triangle_neighbors
from backend.kernels.dual_contour import extract_padded
from backend.kernels.laplacian_solve import LaplacianMatrix
from backend.kernels.timing import recorded
from backend.kernels.uniform_step import uniform_step
from backend.kernels.vertex_normals import vertex_normals
from tests.kernels.scenes import sphere

pytestmark = pytest.mark.cuda

Step = Callable[[], list[Tensor]]


def check(step: Step, change: Callable[[], object]) -> None:
    """A repetition after a change of the inputs does what an ordinary step does."""
    repeat = recorded(step)
    for _ in range(2):
        change()
        found = [x.clone() for x in repeat()]
        for mine, expected in zip(found, step(), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_vertex_normals_and_neighbors() -> None:
    vertices, triangles = (x.cuda() for x in sphere(40, 50))
    vertices.requires_grad_()
    weights = torch.randn_like(vertices)

    def step() -> list[Tensor]:
        normals = vertex_normals(vertices, triangles)
        (gradient,) = torch.autograd.grad((normals * weights).sum(), vertices)
        return [normals.detach(), gradient, triangle_neighbors(triangles, len(vertices))]

    def change() -> None:
        with torch.no_grad():
            vertices.add_(0.02 * torch.randn_like(vertices))
        triangles.copy_(triangles[torch.randperm(len(triangles), device="cuda")])

    check(step, change)


def test_isosurface() -> None:
    grid = Grid((-1.0, -1.0, -1.0), 0.1, (20, 20, 20))
    points = grid.all_positions(torch.device("cuda"))
    field = (points.norm(dim=-1) - 0.6).view(grid.shape)
    band = Band.around_surface(field, grid).padded(1.3)
    values = field.reshape(-1)[band.vertices].requires_grad_()

    def step() -> list[Tensor]:
        vertices, triangles, counts = extract_padded(values, band, 2000, 4000)
        (gradient,) = torch.autograd.grad(vertices.square().sum(), values)
        return [vertices.detach(), triangles, counts, gradient]

    def change() -> None:
        other = (points - 0.05 * torch.randn(3, device="cuda")).norm(dim=-1) - 0.55
        assert band.take(Band.around_surface(other.view(grid.shape), grid))
        with torch.no_grad():
            values.copy_(other[band.vertices] + 0.003 * torch.randn_like(values))

    check(step, change)


def test_linear_system() -> None:
    vertices, triangles = (x.cuda() for x in sphere(40, 50))
    matrix = LaplacianMatrix.of(triangles, len(vertices), 10.0)
    right, scratch = matrix @ vertices, torch.empty_like(vertices)

    def step() -> list[Tensor]:
        solution = torch.zeros_like(vertices)
        matrix.solve(right, solution, scratch, matrix.iterations(1e-3))
        return [solution]

    check(step, lambda: right.copy_(torch.randn_like(right)))


def test_optimizer() -> None:
    start, gradient = torch.randn(500, 3, device="cuda"), torch.randn(500, 3, device="cuda")
    rate, many = torch.tensor(0.1, device="cuda"), 4
    initial = [torch.zeros_like(start), torch.tensor(0.0, device="cuda"), torch.tensor(0.0, device="cuda")]
    parameter, state = start.clone(), [x.clone() for x in initial]

    def step() -> list[Tensor]:
        for mine, first in zip([parameter, *state], [start, *initial], strict=True):
            mine.copy_(first)
        for _ in range(many):
            uniform_step(parameter, gradient, *state, rate, (0.9, 0.99))
        return [parameter]

    check(step, lambda: (rate.mul_(0.5), gradient.copy_(torch.randn_like(gradient))))
