# SPDX-License-Identifier: GPL-3.0-or-later
"""Repair of what free vertices do to a mesh: triangles folded back over their neighbors, and slivers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .mesh import face_areas, face_normals, triangle_neighbors, unique_edges

FOLD_DEGREES = 150.0  # between the normals of two triangles that share an edge
SLIVER = 1e-2  # of the mean area


def find_faults(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Which triangles [T] bool are folded over a neighbor, or are slivers."""
    normals = torch.nn.functional.normalize(face_normals(vertices, triangles), dim=-1)
    neighbors = triangle_neighbors(triangles).long()  # [T, 3]
    across = normals[neighbors.clamp(min=0)]  # [T, 3, 3]
    cosines = (normals[:, None] * across).sum(-1).masked_fill(neighbors < 0, 1.0)
    areas = face_areas(vertices, triangles)
    return (cosines < math.cos(math.radians(FOLD_DEGREES))).any(1) | (areas < SLIVER * areas.mean())


@torch.no_grad()
def unfold(vertices: Tensor, triangles: Tensor, rounds: int = 30) -> Tensor:
    """Vertices [V, 3] with the corners of faulty triangles moved toward the mean of their neighbors.

    Only those corners move, half of the way in each round, until no fault is left or the rounds are over; topology
    stays. Returns the round with the fewest faults: where the surface is thinner than its triangles, smoothing makes
    new ones.
    """
    if not len(triangles):
        return vertices
    a, b = unique_edges(triangles).vertices.unbind(1)
    ends, others = torch.cat((a, b)), torch.cat((b, a))
    degree = torch.zeros(len(vertices), 1, device=vertices.device)
    degree.index_add_(0, ends, torch.ones(len(ends), 1, device=vertices.device))
    best, fewest = vertices, len(triangles)
    for _ in range(rounds):
        faults = find_faults(vertices, triangles)
        count = int(faults.sum())
        if count < fewest:
            best, fewest = vertices, count
        if count == 0:
            break
        corners = torch.unique(triangles[faults].long())
        mean = torch.zeros_like(vertices).index_add_(0, ends, vertices[others]) / degree.clamp(min=1)
        vertices = vertices.clone()
        vertices[corners] = torch.lerp(vertices[corners], mean[corners], 0.5)
    return best
