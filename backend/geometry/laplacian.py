# SPDX-License-Identifier: GPL-3.0-or-later
"""Laplacians of the vertex graph, for regularization and for preconditioned vertex updates."""

import torch
from torch import Tensor

from backend.geometry.mesh import unique_edges


def uniform_laplacian(triangles: Tensor, vertex_count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Combinatorial Laplacian L = D − A, sparse COO [V, V], coalesced, positive semidefinite."""
    edges = unique_edges(triangles).vertices
    one, two = edges[:, 0], edges[:, 1]
    degree = torch.bincount(edges.reshape(-1), minlength=vertex_count).to(dtype)
    diagonal = torch.arange(vertex_count, device=triangles.device)
    rows = torch.cat([one, two, diagonal])
    columns = torch.cat([two, one, diagonal])
    values = torch.cat([torch.full((2 * len(edges),), -1.0, dtype=dtype, device=triangles.device), degree])
    return torch.sparse_coo_tensor(torch.stack([rows, columns]), values, (vertex_count, vertex_count)).coalesce()


def bilaplacian(triangles: Tensor, vertex_count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """L², sparse COO [V, V]."""
    laplacian = uniform_laplacian(triangles, vertex_count, dtype)
    return torch.sparse.mm(laplacian, laplacian).coalesce()


def large_steps_matrix(
    triangles: Tensor, vertex_count: int, smoothness: float = 19.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """I + λL, sparse COO [V, V], the preconditioner of Nicolet et al. 2021 ("Large Steps in Inverse Rendering")."""
    laplacian = uniform_laplacian(triangles, vertex_count, dtype)
    diagonal = torch.arange(vertex_count, device=triangles.device)
    indices = torch.cat([laplacian.indices(), torch.stack([diagonal, diagonal])], dim=1)
    values = torch.cat(
        [laplacian.values() * smoothness, torch.ones(vertex_count, dtype=dtype, device=triangles.device)]
    )
    return torch.sparse_coo_tensor(indices, values, (vertex_count, vertex_count)).coalesce()


def laplacian_loss(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Mean squared offset of each vertex from the mean of its neighbors, a scalar. Differentiable."""
    edges = unique_edges(triangles).vertices
    sums = torch.zeros_like(vertices).index_add(0, edges[:, 0], vertices[edges[:, 1]])
    sums = sums.index_add(0, edges[:, 1], vertices[edges[:, 0]])
    degree = torch.bincount(edges.reshape(-1), minlength=len(vertices)).clamp(min=1)[:, None]
    return (vertices - sums / degree).square().sum(-1).mean()
