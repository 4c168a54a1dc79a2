# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a mesh, counted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.geometry.cleaning import sound
from backend.geometry.manifold import corner_fans
from backend.geometry.mesh import connected_components, unique_edges


@dataclass(frozen=True)
class MeshChecks:
    """Counts of what is wrong with a mesh; a closed, oriented 2-manifold has zeros everywhere but `components`."""

    boundary_edges: int
    nonmanifold_edges: int  # more than two triangles
    nonmanifold_vertices: int  # several fans of triangles meet in the vertex only
    flipped_edges: int  # two triangles run along the edge in the same direction
    degenerate_triangles: int
    duplicate_triangles: int
    unused_vertices: int
    components: int

    @property
    def manifold(self) -> bool:
        return not (self.nonmanifold_edges or self.nonmanifold_vertices or self.flipped_edges)

    @property
    def closed(self) -> bool:
        return self.manifold and self.boundary_edges == 0


def check(vertices: Tensor, triangles: Tensor) -> MeshChecks:
    """Counts the defects of a mesh."""
    edges = unique_edges(triangles)
    index = triangles.long()
    forward = (index < index.roll(-1, 1)).long()
    along = torch.zeros_like(edges.counts).index_add_(0, edges.of_corner.reshape(-1), forward.reshape(-1))
    fans = corner_fans(triangles, edges)
    used = torch.unique(index)
    return MeshChecks(
        boundary_edges=int((edges.counts == 1).sum()),
        nonmanifold_edges=int((edges.counts > 2).sum()),
        nonmanifold_vertices=int(fans.max()) + 1 - len(used) if len(index) else 0,
        flipped_edges=int(((edges.counts == 2) & (along != 1)).sum()),
        degenerate_triangles=int((~sound(vertices, triangles)).sum()),
        duplicate_triangles=len(index) - len(torch.unique(index.sort(dim=1).values, dim=0)),
        unused_vertices=len(vertices) - len(used),
        components=int(connected_components(triangles, len(vertices)).max()) + 1 if len(index) else 0,
    )
