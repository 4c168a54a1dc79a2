# SPDX-License-Identifier: GPL-3.0-or-later
"""Preconditioned vertices against dense linear algebra."""

from __future__ import annotations

import pytest
import torch

from backend.kernels.laplacian_solve import LaplacianMatrix
from backend.optimization.large_steps import ChebyshevSystem, LargeSteps
from tests.kernels.scenes import sphere


def dense(count: int, triangles: torch.Tensor, strength: float) -> torch.Tensor:
    """I + λL with the combinatorial Laplacian, in float64."""
    links = torch.zeros(count, count, dtype=torch.float64)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        links[triangles[:, a].long(), triangles[:, b].long()] = 1
        links[triangles[:, b].long(), triangles[:, a].long()] = 1
    return torch.eye(count, dtype=torch.float64) + strength * (torch.diag(links.sum(1)) - links)


def open_strip() -> tuple[torch.Tensor, torch.Tensor]:
    """A mesh with borders, and a vertex that no triangle uses."""
    vertices = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    return vertices, torch.tensor([[0, 1, 2], [2, 1, 3], [2, 3, 4]], dtype=torch.int32)


MESHES = {"sphere": sphere(10, 14), "strip": open_strip()}


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("strength", [1.0, 10.0, 30.0])
def test_parameters_and_vertices_are_each_others_inverse(device: str, name: str, strength: float) -> None:
    vertices, triangles = (x.to(device) for x in MESHES[name])
    system = LargeSteps(vertices, triangles, strength)
    parameters = system.to_parameters(vertices)
    expected = dense(len(vertices), triangles.cpu(), strength) @ vertices.cpu().double()
    torch.testing.assert_close(parameters.cpu().double(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(system.to_vertices(parameters), vertices, atol=1e-4, rtol=0)
    # Away from where it started too, and more than once.
    for seed in range(2):
        moved = vertices + 0.1 * torch.randn(vertices.shape, generator=torch.Generator().manual_seed(seed)).to(device)
        torch.testing.assert_close(system.to_vertices(system.to_parameters(moved)), moved, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", MESHES)
def test_the_gradient_is_that_of_the_dense_solve(device: str, name: str) -> None:
    vertices, triangles = (x.to(device) for x in MESHES[name])
    system = LargeSteps(vertices, triangles, 10.0)
    weights = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1))
    parameters = system.to_parameters(vertices).requires_grad_()
    (system.to_vertices(parameters) * weights.to(device)).sum().backward()
    assert parameters.grad is not None
    expected = torch.linalg.solve(dense(len(vertices), triangles.cpu(), 10.0), weights.double())
    torch.testing.assert_close(parameters.grad.cpu().double(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", MESHES)
def test_iteration_follows_a_moving_mesh(device: str, name: str) -> None:
    """Each solution starts from the one before, which stays where it is; one that was handed out does not change."""
    vertices, triangles = (x.to(device) for x in MESHES[name])
    matrix = LaplacianMatrix.of(triangles, len(vertices), 10.0)
    system = ChebyshevSystem(matrix, vertices)
    moved, generator = vertices, torch.Generator().manual_seed(2)
    for _ in range(3):
        moved = moved + 0.1 * torch.randn(vertices.shape, generator=generator).to(device)
        found = system.forward(matrix @ moved)
        torch.testing.assert_close(found, moved, atol=2e-3, rtol=0)
    for _ in range(3):
        system.forward(matrix @ moved)
    torch.testing.assert_close(system.forward(matrix @ moved), moved, atol=2e-5, rtol=1e-5)
    kept = found.clone()
    system.forward(matrix @ vertices)
    assert torch.equal(found, kept)


@pytest.mark.parametrize("name", MESHES)
def test_iteration_for_gradients_remembers_nothing(device: str, name: str) -> None:
    vertices, triangles = (x.to(device) for x in MESHES[name])
    system = ChebyshevSystem(LaplacianMatrix.of(triangles, len(vertices), 10.0), vertices)
    gradient = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(3)).to(device)
    found = system.backward(gradient)
    expected = torch.linalg.solve(dense(len(vertices), triangles.cpu(), 10.0), gradient.cpu().double())
    assert float((found.cpu() - expected).norm()) < 2e-3 * float(expected.norm())
    system.backward(1e6 * gradient)
    system.backward(torch.full_like(gradient, torch.nan))
    assert torch.equal(system.backward(gradient), found)


def test_one_pulled_vertex_takes_its_neighbors_along() -> None:
    vertices, triangles = MESHES["sphere"]
    system = LargeSteps(vertices, triangles, 1.0)
    parameters = system.to_parameters(vertices).requires_grad_()
    system.to_vertices(parameters)[0, 0].backward()
    assert parameters.grad is not None
    with torch.no_grad():
        moved = system.to_vertices(parameters + parameters.grad) - vertices
    pulled = moved[:, 0]
    ring = torch.unique(triangles[(triangles == 0).any(1)].long())
    far = vertices[:, 0] < -0.5 * float(vertices[0, 0].sign())
    assert float(pulled[0]) == float(pulled.max()) > 0
    assert float(pulled[ring].min()) > 0.25 * float(pulled[0]) and (pulled >= -1e-6).all()
    assert float(pulled[far].max()) < 0.2 * float(pulled[0])
    assert float(moved[:, 1:].abs().max()) < 1e-5


def test_a_shift_of_the_whole_mesh_costs_nothing() -> None:
    vertices, triangles = MESHES["sphere"]
    system = LargeSteps(vertices, triangles, 10.0)
    shift = torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(
        system.to_parameters(vertices + shift) - system.to_parameters(vertices),
        shift.expand_as(vertices),
        atol=1e-4,
        rtol=0,
    )
