# SPDX-License-Identifier: GPL-3.0-or-later
"""Triangle meshes: normals and connectivity.

Meshes are pairs (vertices [V, 3] float, triangles [T, 3] integer), counter-clockwise seen from outside, on any torch
device. Corner e of a triangle starts its edge e, which runs to corner (e + 1) % 3.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as _graph_components
from torch import Tensor


def face_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unnormalized face normals [T, 3]; their length is twice the area. Differentiable."""
    # Not by indexing, whose gradient is sorted before it is added.
    corners = vertices.index_select(0, triangles.reshape(-1).long()).view(-1, 3, 3)  # [T, 3, 3] float32, world
    return torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def face_areas(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Areas [T] in squared world units. Differentiable away from zero area."""
    return 0.5 * torch.linalg.vector_norm(face_normals(vertices, triangles), dim=-1)


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit vertex normals [V, 3]: face normals averaged by area. Differentiable.

    Vertices without any (non-degenerate) triangle get (0, 0, 1), so that later code never meets a zero vector.
    """
    of_corner = face_normals(vertices, triangles)[:, None].expand(-1, 3, -1)  # [T, 3, 3]
    sums = torch.zeros_like(vertices).index_add(0, triangles.long().reshape(-1), of_corner.reshape(-1, 3))
    # The eps of `normalize` is absolute; areas of a small mesh are far below it, hence the explicit test.
    length = torch.linalg.vector_norm(sums.detach(), dim=-1, keepdim=True)
    up = torch.zeros_like(sums)
    up[:, 2] = 1.0
    valid = length > 0
    scaled = torch.where(valid, sums / torch.where(valid, length, 1.0), up)
    return torch.nn.functional.normalize(scaled, dim=-1)


@dataclass(frozen=True)
class Edges:
    """Undirected edges. `vertices` [E, 2] int64 with column 0 < column 1, sorted; `of_corner` [T, 3] int64 is the edge
    from each corner to the next; `counts` [E] int64 is the number of triangles at it."""

    vertices: Tensor
    of_corner: Tensor
    counts: Tensor


def unique_edges(triangles: Tensor) -> Edges:
    """Undirected edges of the triangles [T, 3]."""
    index = triangles.long()
    start, end = index.reshape(-1), index.roll(-1, 1).reshape(-1)
    base = int(index.max()) + 1 if len(index) else 1
    keys = torch.minimum(start, end) * base + torch.maximum(start, end)
    order = _argsort(keys)
    ordered = keys[order]
    is_first = torch.diff(ordered, prepend=ordered[:1] - 1) != 0
    inverse = torch.empty_like(order)
    inverse[order] = torch.cumsum(is_first, 0) - 1
    unique = ordered[is_first]
    pairs = torch.stack([unique // base, unique % base], dim=1)
    return Edges(pairs, inverse.reshape(-1, 3), torch.bincount(inverse))


def _argsort(keys: Tensor) -> Tensor:
    """Stable order [N] int64 of keys [N]; on a CPU by numpy, whose sort is several times as fast as torch's."""
    on_cpu = keys.device.type == "cpu"
    return torch.from_numpy(np.argsort(keys.numpy(), kind="stable")) if on_cpu else torch.argsort(keys, stable=True)


def triangle_neighbors(triangles: Tensor, edges: Edges | None = None) -> Tensor:
    """Neighbors [T, 3] int32 across edge e of each triangle; −1 at borders and at edges of more than two triangles."""
    edges = edges or unique_edges(triangles)
    of_corner = edges.of_corner.reshape(-1)
    order = _argsort(of_corner)
    first = torch.cumsum(edges.counts, 0) - edges.counts
    pair = first[edges.counts == 2]
    one, two = order[pair], order[pair + 1]
    neighbors = torch.full_like(of_corner, -1)
    neighbors[one] = two // 3
    neighbors[two] = one // 3
    return neighbors.reshape(-1, 3).to(torch.int32)


def edge_triangles(edges: Edges) -> tuple[Tensor, Tensor]:
    """For each edge its first two triangles [E, 2] int64 (−1 where absent) and their corners [E, 2] that start it."""
    order = _argsort(edges.of_corner.reshape(-1))
    first = torch.cumsum(edges.counts, 0) - edges.counts
    one = order[first] if len(first) else first
    has_two = edges.counts > 1
    two = torch.where(has_two, order[torch.where(has_two, first + 1, first)], -1) if len(first) else first
    sides = torch.stack([one // 3, torch.where(has_two, two // 3, -1)], dim=1)
    corners = torch.stack([one % 3, torch.where(has_two, two % 3, -1)], dim=1)
    return sides, corners


def connected_components(triangles: Tensor, vertex_count: int) -> Tensor:
    """Component number [T] int64 of each triangle, numbered from 0 without gaps; parts touching in a vertex are one."""
    index = triangles.long().cpu().numpy()
    if not len(index):
        return torch.zeros(0, dtype=torch.int64, device=triangles.device)
    rows = np.concatenate([index[:, 0], index[:, 1]])
    columns = np.concatenate([index[:, 1], index[:, 2]])
    labels = linked(rows, columns, vertex_count)[index[:, 0]]
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].astype(np.int64)).to(triangles.device)


def linked(rows: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    """Component number [count] int64 of nodes of which the pairs (rows [P], columns [P]) are linked."""
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    return np.asarray(_graph_components(graph, directed=False)[1], dtype=np.int64)
