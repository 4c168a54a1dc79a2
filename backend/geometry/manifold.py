# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes whose solids touch in edges and vertices, taken apart into oriented 2-manifolds.

A fan is the corners of one vertex that consistently oriented triangles connect across edges. A vertex of a manifold has
one.
"""

import numpy as np
import torch
from torch import Tensor

from .mesh import Edges, edge_triangles, linked, unique_edges


def split_nonmanifold(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Makes the mesh an oriented 2-manifold by duplicating vertices; the surface stays where it is.

    Where 2n triangles meet at an edge they are paired so that each pair bounds one solid wedge: bodies that touch in an
    edge come apart and stay closed. Returns vertices, triangles and the old index [V'] of each vertex (of one
    end, for the few new vertices in the middle of edges).
    """
    vertices, faces, source = _separate(vertices, triangles)
    for _ in range(16):
        edges = unique_edges(faces)
        if not bool((edges.counts > 2).any()):
            break
        vertices, faces, source = _halve_double_edges(vertices, faces, edges, source)
        vertices, faces, parent = _separate(vertices, faces)
        source = source[parent]
    return vertices, faces, source


def _separate(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gives every fan of triangles about a vertex a vertex of its own."""
    edges = unique_edges(triangles)
    fans = corner_fans(triangles, edges, _wedge_pairs(vertices, triangles, edges))
    source = torch.zeros(int(fans.max()) + 1 if len(triangles) else 0, dtype=torch.int64, device=triangles.device)
    source[fans.reshape(-1)] = triangles.long().reshape(-1)
    return vertices[source], fans.to(triangles.dtype), source


def _halve_double_edges(
    vertices: Tensor, triangles: Tensor, edges: Edges, source: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Two wedges can meet in an edge and belong to one fan at both its ends: each gets its own middle."""
    pairs = _wedge_pairs(vertices, triangles, edges)  # [P, 2]
    # One edge of a triangle at a time; the caller comes again.
    order = torch.arange(len(pairs), device=pairs.device)
    first = torch.full((len(triangles),), len(pairs), device=pairs.device)
    first.scatter_reduce_(0, (pairs // 3).reshape(-1), order.repeat_interleave(2), "amin")
    pairs = pairs[(first[pairs // 3] == order[:, None]).all(1)]
    if not len(pairs):
        return vertices, triangles, source
    triangle, corner = pairs // 3, pairs % 3  # [P, 2]
    ahead = (corner + 1) % 3
    start = triangles[triangle[:, 0], corner[:, 0]].long()
    end = triangles[triangle[:, 0], ahead[:, 0]].long()
    middle = (len(vertices) + torch.arange(len(pairs), device=pairs.device)).to(triangles.dtype)
    second = triangles[triangle]  # [P, 2, 3]
    second.scatter_(2, corner[..., None], middle[:, None, None].expand(-1, 2, 1))
    index = triangles.clone()
    index[triangle, ahead] = middle[:, None].expand(-1, 2)
    return (
        torch.cat([vertices, (vertices[start] + vertices[end]) / 2]),
        torch.cat([index, second.reshape(-1, 3)]),
        torch.cat([source, source[start]]),
    )


def corner_fans(triangles: Tensor, edges: Edges, wedges: Tensor | None = None) -> Tensor:
    """Fan number [T, 3] int64 of each corner: corners of one vertex are in one fan if consistently oriented triangles
    connect them across edges. At edges of more than two triangles only `wedges` connect, see `_wedge_pairs`."""
    index = triangles.long().reshape(-1)
    sides, corners = edge_triangles(edges)
    pairs = (sides * 3 + corners)[edges.counts == 2]  # [P, 2] half-edges
    pairs = pairs[index[pairs[:, 0]] != index[pairs[:, 1]]]
    if wedges is not None:
        pairs = torch.cat([pairs, wedges])
    return _join_fans(len(triangles), pairs).to(triangles.device)


def _join_fans(triangle_count: int, edge_pairs: Tensor) -> Tensor:
    """Fan numbers from pairs [P, 2] of half-edges (3 · triangle + corner) that run against each other."""
    starts = edge_pairs
    ends = starts // 3 * 3 + (starts + 1) % 3  # corner (e + 1) % 3, since starts % 3 == e
    rows = torch.cat([starts[:, 0], ends[:, 0]]).cpu().numpy()
    columns = torch.cat([ends[:, 1], starts[:, 1]]).cpu().numpy()
    return torch.from_numpy(linked(rows, columns, triangle_count * 3)).reshape(-1, 3)


def _wedge_pairs(vertices: Tensor, triangles: Tensor, edges: Edges) -> Tensor:
    """Pairs [P, 2] of half-edges that bound one solid wedge, at edges of more than two triangles."""
    crowded = edges.counts > 2
    device = triangles.device
    if not bool(crowded.any()):
        return torch.zeros((0, 2), dtype=torch.int64, device=device)
    index = triangles.long().cpu().numpy()
    points = vertices.detach().double().cpu().numpy()
    of_corner = edges.of_corner.reshape(-1).cpu().numpy()
    halves = np.flatnonzero(crowded.cpu().numpy()[of_corner])
    halves = halves[np.argsort(of_corner[halves], kind="stable")]  # [H], those of an edge together
    edge = of_corner[halves]
    begins = np.concatenate([[True], edge[1:] != edge[:-1]])
    group = np.cumsum(begins) - 1
    heads = np.flatnonzero(begins)  # [G], where each edge's half-edges begin
    triangle, corner = halves // 3, halves % 3
    ends = edges.vertices.cpu().numpy()[edge]  # [H, 2]
    low = points[ends[:, 0]]
    axis = _unit(points[ends[:, 1]] - low)
    apex = points[index[triangle, (corner + 2) % 3]] - low
    across = apex - (apex * axis).sum(1, keepdims=True) * axis
    frame = _unit(across[heads])[group]
    angle = np.arctan2((across * np.cross(axis, frame)).sum(1), (across * frame).sum(1))
    forward = index[triangle, corner] == ends[:, 0]
    # Counter-clockwise about the edge, a triangle that runs along it has its solid side behind it (clockwise).
    order = np.lexsort((angle, group))
    before = np.roll(order, 1)
    before[heads] = order[np.append(heads[1:], len(order)) - 1]
    bounds = forward[order] & ~forward[before]
    pairs = np.stack([halves[order[bounds]], halves[before[bounds]]], axis=1)
    return torch.from_numpy(pairs).to(device)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, 3] of length one; those of no length stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
