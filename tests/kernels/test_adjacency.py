# SPDX-License-Identifier: GPL-3.0-or-later
"""Neighbors by hashing against a dictionary of edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.kernels.adjacency import triangle_neighbors
from backend.kernels.reference.antialias import build_neighbors
from tests.kernels.scenes import sphere


def fan(blades: int) -> Tensor:
    """Triangles around one vertex, all of whose edges have it as their lower end."""
    outer = torch.arange(blades, dtype=torch.int32)
    return torch.stack((torch.zeros_like(outer), 1 + outer, 1 + (outer + 1) % blades), dim=1)


def random_triangles(vertices: int, count: int, seed: int) -> Tensor:
    """With different corners; edges have one, two or many of them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(vertices, generator=generator)[:3] for _ in range(count)]).to(torch.int32)


MESHES = {
    "sphere": sphere(20, 23)[1],
    "open": sphere(20, 23)[1][:300],
    "shuffled": sphere(20, 23)[1][torch.randperm(2 * 23 * 19, generator=torch.Generator().manual_seed(0))],
    "fan": fan(500),
    "crowded": random_triangles(9, 60, 1),
    "sparse": random_triangles(400, 300, 2),
    "one": torch.tensor([[2, 0, 1]], dtype=torch.int32),
    "none": torch.zeros(0, 3, dtype=torch.int32),
}


@pytest.mark.parametrize("name", MESHES)
def test_matches_the_reference(device: str, name: str) -> None:
    triangles = MESHES[name]
    count = int(triangles.max()) + 1 if len(triangles) else 0
    expected = build_neighbors(triangles)
    for vertex_count in (count, 3 * count + 1, 2_000_000_000):
        found = triangle_neighbors(triangles.to(device), vertex_count)
        assert found.dtype == torch.int32 and torch.equal(found.cpu(), expected)


def test_vertices_with_high_numbers(device: str) -> None:
    triangles = MESHES["sphere"] + 1_999_000_000
    found = triangle_neighbors(triangles.to(device), 2_000_000_000)
    assert torch.equal(found.cpu(), build_neighbors(triangles))


def test_unused_places_have_no_neighbors_and_disturb_nobody(device: str) -> None:
    triangles = MESHES["open"].to(device)
    twice = triangles.new_tensor([[0, 0, 1], [1, 0, 1], [2, 1, 1]])
    padded = torch.cat((triangles.new_zeros(100, 3), triangles, triangles.new_zeros(70, 3), twice))
    found = triangle_neighbors(padded, int(triangles.max()) + 1)
    expected = triangle_neighbors(triangles, int(triangles.max()) + 1)
    inside = slice(100, 100 + len(triangles))
    assert torch.equal(found[inside], torch.where(expected >= 0, expected + 100, expected))
    found[inside] = -1
    assert bool((found == -1).all())


def test_the_result_is_the_same_each_time(device: str) -> None:
    triangles = sphere(150, 150)[1].to(device)
    first = triangle_neighbors(triangles, 30_000)
    assert all(torch.equal(triangle_neighbors(triangles, 30_000), first) for _ in range(5))
    assert bool((first >= 0).all())
