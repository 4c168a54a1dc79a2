# SPDX-License-Identifier: GPL-3.0-or-later
"""What a raw surface needs before it can be remeshed: no doubles, no slivers, no floaters, and a manifold."""

import torch
from torch import Tensor

from .manifold import split_nonmanifold
from .mesh import connected_components, face_areas


def clean(vertices: Tensor, triangles: Tensor, min_component: float = 0.01) -> tuple[Tensor, Tensor]:
    """What to do before remeshing: weld, drop degenerate triangles, make manifold, drop small parts.

    `min_component` is a fraction of the largest part's area.
    """
    vertices, triangles = weld(vertices, triangles)
    vertices, triangles = remove_degenerate(vertices, triangles)
    vertices, triangles, _ = split_nonmanifold(vertices, triangles)
    return drop_small_components(vertices, triangles, min_component)


def sound(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Mask [T]: three different corners, and a height above 1e-6 of the longest edge (what float32 can still tell)."""
    index = triangles.long()
    corners = vertices[index].double()
    distinct = (index != index.roll(-1, 1)).all(1)
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    longest = (corners.roll(-1, 1) - corners).square().sum(-1).amax(1)
    return distinct & (torch.linalg.vector_norm(normal, dim=-1) > 1e-6 * longest) & (longest > 0)


def compact(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Removes unused vertices. Returns vertices, triangles and the old index [V'] int64 of each kept vertex."""
    kept, inverse = torch.unique(triangles.long(), return_inverse=True)
    return vertices[kept], inverse.reshape(-1, 3).to(triangles.dtype), kept


def weld(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Joins vertices at equal positions. Triangles that collapse are removed."""
    unique, inverse = torch.unique(vertices, dim=0, return_inverse=True)
    representative = torch.full((len(unique),), len(vertices), dtype=torch.int64, device=vertices.device)
    order = torch.arange(len(vertices), device=vertices.device)
    representative.scatter_reduce_(0, inverse, order, "amin")
    joined = inverse[triangles.long()]
    distinct = (joined != joined.roll(-1, 1)).all(1)
    result = compact(vertices[representative], joined[distinct].to(triangles.dtype))
    return result[0], result[1]


def remove_degenerate(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Removes triangles without area, all but one of duplicates, pairs of opposite duplicates, and unused vertices."""
    triangles = triangles[sound(vertices, triangles)]
    index = triangles.long()
    ordered = index.sort(dim=1).values
    unique, inverse = torch.unique(ordered, dim=0, return_inverse=True)
    # The parity of a permutation of three corners is the orientation of the duplicate.
    ascents = (index < index.roll(-1, 1)).sum(1)
    orientation = torch.where(ascents == 2, 1, -1)
    balance = torch.zeros(len(unique), dtype=torch.int64, device=index.device).index_add_(0, inverse, orientation)
    first = torch.full((len(unique),), len(index), dtype=torch.int64, device=index.device)
    order = torch.arange(len(index), device=index.device)
    agrees = orientation * balance[inverse].sign() > 0
    first.scatter_reduce_(0, inverse, torch.where(agrees, order, len(index)), "amin")
    keep = first[inverse] == order
    result = compact(vertices, triangles[keep])
    return result[0], result[1]


def drop_small_components(vertices: Tensor, triangles: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Removes connected components whose area is below `fraction` of the largest component's area."""
    if not len(triangles):
        return vertices[:0], triangles
    labels = connected_components(triangles, len(vertices))
    areas = face_areas(vertices, triangles)
    sums = torch.zeros(int(labels.max()) + 1, dtype=areas.dtype, device=areas.device).index_add_(0, labels, areas)
    result = compact(vertices, triangles[(sums >= fraction * sums.max())[labels]])
    return result[0], result[1]
