# SPDX-License-Identifier: GPL-3.0-or-later
"""What no photograph shows: the underside of what stands on a table, the ends of deep holes.

The visual hull bulges there as far as the silhouettes allow. A membrane over the rim of what is seen is the smallest
surface that explains the photographs as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.membrane import patches, spanned
from ..geometry.rings import grown
from .views import TrainingViews, triangles_seen

RINGS = 3  # around a seen triangle: smaller triangles than pixels fall between these
TOLERATED_PIXELS = 20  # of all views together, that a patch may show after it was spanned


@torch.no_grad()
def flatten_unseen(vertices: Tensor, triangles: Tensor, views: TrainingViews) -> Tensor:
    """Vertices [V, 3] of the mesh, those far from every triangle that a view sees on membranes.

    A patch whose membrane would come into view keeps its shape.
    """
    counts = pixel_counts(vertices, triangles, views)
    seen = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    seen[triangles[counts > 0].long().reshape(-1)] = True
    free = ~grown(seen, triangles, RINGS)
    number, labels = patches(free, triangles)
    if not number:
        return vertices
    moved = spanned(vertices, triangles, free)
    part = torch.from_numpy(labels).to(vertices.device).long()
    corner_parts = part[triangles.long()].amax(1)  # [T]
    inside = corner_parts >= 0
    shown = torch.zeros(number, dtype=torch.int64, device=vertices.device)
    shown.index_add_(0, corner_parts[inside], pixel_counts(moved, triangles, views)[inside])
    back = free & (shown > TOLERATED_PIXELS)[part.clamp(min=0)]
    return torch.where(back[:, None], vertices, moved)


def pixel_counts(vertices: Tensor, triangles: Tensor, views: TrainingViews) -> Tensor:
    """In how many pixels of all views each triangle is seen: [T] int64."""
    counts = torch.zeros(len(triangles), dtype=torch.int64, device=vertices.device)
    for ids in triangles_seen(vertices, triangles, views):
        counts += torch.bincount(ids[ids >= 0].long(), minlength=len(triangles))
    return counts
