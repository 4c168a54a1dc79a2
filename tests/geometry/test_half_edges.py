# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations on edges leave half-edges as they would be if built anew from the triangles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from backend.geometry import manifold
from backend.geometry.half_edges import HalfEdges, twins
from backend.geometry.relaxation import find_features
from backend.geometry.remesh import collapse_short, flip_edges, split_long
from tests.geometry.mesh_checks import check


def sphere(part: float) -> HalfEdges:
    shape = trimesh.creation.icosphere(subdivisions=4)
    vertices, triangles = torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces)
    vertices, triangles, _ = manifold.split_nonmanifold(vertices, triangles[: int(part * len(triangles))])
    half_edges = HalfEdges.of(vertices, triangles)
    find_features(half_edges, 60.0)
    return half_edges


def verify(half_edges: HalfEdges) -> None:
    faces = half_edges.faces
    alive = faces[:, 0] >= 0
    numbers = np.flatnonzero(np.repeat(alive.numpy(), 3))
    count = half_edges.vertex_count
    fresh = HalfEdges.of(half_edges.points[:count], faces[alive])
    expected = np.where(fresh.twin >= 0, numbers[fresh.twin], -1)
    assert np.array_equal(half_edges.twin.numpy()[numbers], expected)
    used = fresh.out >= 0
    assert torch.equal(half_edges.out[:count] >= 0, used)
    assert torch.equal(half_edges.degree[:count][used], fresh.degree[used])
    out = half_edges.out[:count][used].long()
    assert torch.equal(half_edges.corner[out].long(), torch.nonzero(used)[:, 0])
    assert torch.equal(half_edges.twin[out] < 0, fresh.twin[fresh.out[used].long()] < 0)


def test_twins_run_the_other_way() -> None:
    triangles = np.array([[0, 1, 2], [2, 1, 3], [3, 1, 4]])
    assert twins(triangles).tolist() == [-1, 3, -1, 1, 6, -1, 4, -1, -1]
    assert (twins(np.array([[0, 1, 2], [0, 1, 3]])) < 0).all()  # one of them is turned over
    assert (twins(np.array([[0, 1, 2], [1, 0, 3], [1, 0, 4]])) < 0).all()


@pytest.mark.parametrize("part", [1.0, 0.6])
def test_operations_keep_the_links(part: float) -> None:
    half_edges = sphere(part)
    verify(half_edges)
    before = half_edges.triangle_count
    split_long(half_edges, 0.03)
    assert half_edges.triangle_count > 2 * before
    verify(half_edges)
    ends = half_edges.points[half_edges.faces.long()]
    assert float((ends - ends.roll(1, 1)).norm(dim=-1).max()) <= 0.03
    collapse_short(half_edges, 0.06, 0.1)
    verify(half_edges)
    flip_edges(half_edges)
    verify(half_edges)
    points, faces = half_edges.compact()
    assert len(faces) < 2 * before
    checks = check(points, faces)
    assert checks.manifold and not checks.degenerate_triangles and (part < 1.0 or checks.closed)
