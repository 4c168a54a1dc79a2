# SPDX-License-Identifier: GPL-3.0-or-later
"""The iteration against dense linear algebra: the bounds hold, the error falls as it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.kernels.laplacian_solve import LaplacianMatrix
from tests.kernels.scenes import sphere

STRENGTHS = [0.0, 1.0, 10.0, 30.0]


def random_mesh() -> tuple[Tensor, Tensor]:
    """Triangles between random vertices, so that edges have one, two or many; two of them without area."""
    generator = torch.Generator().manual_seed(3)
    triangles = torch.randint(0, 38, (60, 3), generator=generator).to(torch.int32)
    triangles[-2:] = torch.tensor([[4, 4, 5], [0, 0, 0]])
    return torch.randn(40, 3, generator=generator), triangles


def two_parts() -> tuple[Tensor, Tensor]:
    """A tetrahedron far from a sphere, and vertices that no triangle uses: parts of unlike mean degrees."""
    vertices, triangles = sphere(8, 9)
    tetrahedron = torch.tensor([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]], dtype=torch.int32)
    more = torch.randn(90, 3, generator=torch.Generator().manual_seed(4))
    return torch.cat((vertices, more)), torch.cat((triangles, tetrahedron + len(vertices)))


MESHES = {
    "sphere": sphere(10, 14),
    "random": random_mesh(),
    "parts": two_parts(),
    "nothing": (torch.ones(3, 3), torch.zeros(0, 3, dtype=torch.int32)),
}


def dense(triangles: Tensor, count: int, strength: float) -> Tensor:
    """I + λL, [V, V] float64."""
    links = torch.zeros(count, count, dtype=torch.float64)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        links[triangles[:, a].long(), triangles[:, b].long()] = 1
        links[triangles[:, b].long(), triangles[:, a].long()] = 1
    links.fill_diagonal_(0)
    return torch.eye(count, dtype=torch.float64) + strength * (torch.diag(links.sum(1)) - links)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", MESHES)
def test_the_product_is_that_of_the_dense_matrix(device: str, name: str, strength: float) -> None:
    vertices, triangles = MESHES[name]
    matrix = LaplacianMatrix.of(triangles.to(device), len(vertices), strength)
    expected = dense(triangles, len(vertices), strength) @ vertices.double()
    torch.testing.assert_close((matrix @ vertices.to(device)).cpu().double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", MESHES)
def test_the_bounds_hold_and_are_close(name: str, strength: float) -> None:
    vertices, triangles = MESHES[name]
    low, high = LaplacianMatrix.of(triangles, len(vertices), strength).spectrum
    matrix = dense(triangles, len(vertices), strength)
    scale = matrix.diagonal().rsqrt()
    eigenvalues = torch.linalg.eigvalsh(scale[:, None] * matrix * scale)
    assert low <= 1.01 * float(eigenvalues[0]) and float(eigenvalues[-1]) <= high + 1e-9 < 2
    if name == "sphere":
        assert low > 0.9 * float(eigenvalues[0]) and high < 1.05 * float(eigenvalues[-1])


@pytest.mark.parametrize("reduction", [1e-1, 1e-3])
@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", MESHES)
def test_the_error_falls_as_far_as_was_asked_for(device: str, name: str, strength: float, reduction: float) -> None:
    vertices, triangles = MESHES[name]
    matrix = LaplacianMatrix.of(triangles.to(device), len(vertices), strength)
    exact = dense(triangles, len(vertices), strength)
    expected = torch.linalg.solve(exact, vertices.double())
    start = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(5))
    solution, scratch = start.clone().to(device), torch.full_like(vertices, torch.nan).to(device)
    count = matrix.iterations(reduction)
    matrix.solve(vertices.to(device), solution, scratch, count)
    weights = exact.diagonal()[:, None].sqrt()  # the norm in which the theory counts
    before, after = ((weights * (x.cpu() - expected)).norm() for x in (start, solution))
    # The lowest eigenvalue may lie a little below its bound, and float32 ends somewhere.
    assert float(after) <= 1.5 * reduction * float(before) + 1e-5
    assert count % 2 == 0 and count <= 80


def test_a_large_mesh_needs_no_more_iterations_than_a_small_one() -> None:
    """The residual that the surface stage gets: λ = 10 and 80 000 vertices, after a step of the optimiser."""
    vertices, triangles = sphere(283, 283)
    matrix = LaplacianMatrix.of(triangles, len(vertices), 10.0)
    count = matrix.iterations(1e-3)
    assert count == LaplacianMatrix.of(MESHES["sphere"][1], 128, 10.0).iterations(1e-3) <= 40
    moved = vertices + 0.01 * torch.randn(vertices.shape, generator=torch.Generator().manual_seed(6))
    for right, start in ((matrix @ moved, vertices), (moved - vertices, torch.zeros_like(vertices))):
        solution = start.clone()
        matrix.solve(right, solution, torch.empty_like(solution), count)
        residual = (right - matrix @ solution).norm(dim=0) / right.norm(dim=0)
        assert float(residual.max()) < 1e-3
