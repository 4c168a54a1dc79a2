# SPDX-License-Identifier: GPL-3.0-or-later
"""Membranes: parts of a surface of which nothing is known become soap films over the rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from torch import Tensor

from .mesh import unique_edges


def patches(free: Tensor, triangles: Tensor) -> tuple[int, npt.NDArray[np.int32]]:
    """Number of connected parts among the `free` [V] bool vertices, and the part of each [V], −1 for the others."""
    links = _links(triangles, len(free))
    chosen = np.flatnonzero(free.cpu().numpy())
    count, labels = connected_components(links[chosen][:, chosen], directed=False)
    part = np.full(len(free), -1, np.int32)
    part[chosen] = labels
    return count, part


def spanned(vertices: Tensor, triangles: Tensor, free: Tensor) -> Tensor:
    """Vertices [V, 3], with the `free` [V] bool among them at the mean of their neighbors: L v = 0 for all of them.

    Patches that meet no other vertex stay.
    """
    count, part = patches(free, triangles)
    links = _links(triangles, len(vertices))
    bound = np.zeros(count + 1, bool)  # the last for part −1: vertices that are not free
    outside = links @ (part < 0).astype(np.float64) > 0
    bound[part[outside & (part >= 0)]] = True
    chosen = np.flatnonzero(bound[part])
    result = vertices.clone()
    if len(chosen):
        degree = np.asarray(links.sum(1)).ravel()
        matrix = (sparse.diags(degree) - links).tocsr()[chosen]
        known = vertices.detach().cpu().numpy().astype(np.float64)
        known[chosen] = 0
        factors = splu(
            matrix[:, chosen].tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            options={"SymmetricMode": True},
            diag_pivot_thresh=0.0,
        )
        solved = factors.solve(-(matrix @ known))
        result[torch.from_numpy(chosen).to(result.device)] = torch.from_numpy(solved).to(result)
    return result


def _links(triangles: Tensor, count: int) -> sparse.csr_matrix:
    """[V, V], one where an edge joins two vertices."""
    a, b = unique_edges(triangles).vertices.cpu().numpy().T
    return sparse.coo_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(count, count)).tocsr()
