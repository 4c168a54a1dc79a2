# SPDX-License-Identifier: GPL-3.0-or-later
"""Vertex normals against `geometry.mesh.vertex_normals`, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.geometry import mesh
from backend.kernels.vertex_normals import vertex_normals
from tests.kernels.scenes import leaf, sphere


def rough_sphere(rings: int = 12, segments: int = 15) -> tuple[Tensor, Tensor]:
    vertices, triangles = sphere(rings, segments)
    return vertices + 0.05 * torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0)), triangles


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_matches_the_reference(device: str, size: float) -> None:
    vertices, triangles = rough_sphere()
    mine, exact = leaf(size * vertices, device), leaf(size * vertices.double(), torch.float64)
    normals = vertex_normals(mine, triangles.to(device))
    expected = mesh.vertex_normals(exact, triangles)
    torch.testing.assert_close(normals.cpu().double(), expected, rtol=0, atol=1e-4 if size < 1 else 1e-5)
    weights = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1))
    (normals * weights.to(device)).sum().backward()
    (expected * weights).sum().backward()
    assert mine.grad is not None and exact.grad is not None
    torch.testing.assert_close(size * mine.grad.cpu().double(), size * exact.grad, rtol=1e-3, atol=1e-3)


def test_padding_and_unused_vertices_change_nothing_and_get_nothing(device: str) -> None:
    vertices, triangles = (x.to(device) for x in rough_sphere())
    count = len(vertices)
    padded = torch.cat((triangles, triangles.new_zeros(40, 3), triangles.new_tensor([[3, 3, 4], [5, 6, 5]])))
    mine, alone = leaf(torch.cat((vertices, vertices.new_zeros(30, 3))), device), leaf(vertices, device)
    normals, expected = vertex_normals(mine, padded), vertex_normals(alone, triangles)
    torch.testing.assert_close(normals[:count], expected)
    assert not normals[count:].any()
    weights = torch.randn(normals.shape, generator=torch.Generator().manual_seed(2)).to(device)
    (normals * weights).sum().backward()
    (expected * weights[:count]).sum().backward()
    assert mine.grad is not None and alone.grad is not None
    torch.testing.assert_close(mine.grad[:count], alone.grad, rtol=1e-4, atol=1e-4)
    assert not mine.grad[count:].any()


def test_triangles_without_area_give_no_nan(device: str) -> None:
    vertices = leaf(torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 0]]), device)
    triangles = torch.tensor([[0, 1, 2], [0, 4, 1], [0, 1, 3]], dtype=torch.int32, device=device)
    normals = vertex_normals(vertices, triangles)
    up = torch.tensor([0.0, 0.0, 1.0], device=device)
    assert torch.equal(normals.detach(), up * torch.tensor([[1.0], [1], [0], [1], [0]], device=device))
    normals.sum().backward()
    assert vertices.grad is not None and bool(torch.isfinite(vertices.grad).all())


def test_empty_and_strided_inputs(device: str) -> None:
    vertices, triangles = (x.to(device) for x in rough_sphere())
    expected = vertex_normals(vertices, triangles)
    strided = vertices.T.contiguous().T
    torch.testing.assert_close(vertex_normals(strided, triangles.T.contiguous().T), expected)
    lone = leaf(vertices[:4], device)
    normals = vertex_normals(lone, triangles[:0])
    normals.sum().backward()
    assert lone.grad is not None and not normals.any() and not lone.grad.any()
    assert vertex_normals(vertices[:0], triangles[:0]).shape == (0, 3)
