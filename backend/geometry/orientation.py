# SPDX-License-Identifier: GPL-3.0-or-later
"""Which side of a mesh is outside, where its triangles do not say so with one voice."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from .mesh import edge_triangles, face_areas, unique_edges


def facing_outward(vertices: Tensor, triangles: Tensor) -> Tensor:
    """The triangles [T, 3] of a mesh on the CPU, T > 0, turned so that they face out of what they enclose.

    Neighbors are made to agree: within a part, joined across edges of two triangles, the lesser area is turned. What
    has but one side stays as it is. Each closed part is then turned to enclose a positive volume. Parts with a border
    say little of their inside one by one, as the inner wall of a cup does: they are turned together, or not at all.
    """
    place = torch.unique(vertices, dim=0, return_inverse=True)[1]  # vertices at one place are one
    joined = place[triangles.long()]
    part, turned = _parts(joined)  # [T]

    def sums(values: Tensor) -> Tensor:
        return values.new_zeros(int(part.max()) + 1).index_add_(0, part, values)

    areas = face_areas(vertices.double(), triangles)
    turned ^= (sums(torch.where(turned, areas, -areas)) > 0)[part]
    edges = unique_edges(joined)
    bordered = (sums((edges.counts[edges.of_corner] != 2).any(1).double()) > 0)[part]  # [T]
    group = torch.where(bordered, 0, part + 1)
    corners = vertices[triangles.long()].double()  # [T, 3, 3]
    totals = corners.new_zeros(int(group.max()) + 1, 4)
    totals.index_add_(0, group, torch.cat((corners.mean(1), torch.ones_like(areas)[:, None]), 1))
    centers = totals[:, :3] / totals[:, 3:].clamp(min=1)  # where they round least; any point gives the same volume
    a, b, c = (corners - centers[group][:, None]).unbind(1)
    volumes = torch.where(turned, -1, 1) * (a * torch.linalg.cross(b, c)).sum(1)
    enclosed = volumes.new_zeros(len(centers)).index_add_(0, group, volumes)
    turned ^= (enclosed < 0)[group]
    return torch.where(turned[:, None], triangles.flip(1), triangles)


def _parts(triangles: Tensor) -> tuple[Tensor, Tensor]:
    """The part [T] int64 of each triangle, and whether it goes against others of its part [T] bool.

    Every triangle stands twice in a graph, as it is and turned over, and is linked with that form of its neighbor that
    agrees with it: a part with two sides falls into two components, one the other turned over.
    """
    count = len(triangles)
    edges = unique_edges(triangles)
    pairs = edges.counts == 2
    sides, starts = (both[pairs] for both in edge_triangles(edges))  # [E, 2]
    one, two = sides.unbind(1)
    same_way = triangles[one, starts[:, 0]] == triangles[two, starts[:, 1]]
    rows = torch.cat((one, one + count)).numpy()
    columns = torch.cat((two + count * same_way, two + count * ~same_way)).numpy()
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(2 * count, 2 * count))
    labels = torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))
    as_is, over = labels[:count], labels[count:]
    return torch.unique(torch.minimum(as_is, over), return_inverse=True)[1], as_is > over
