# SPDX-License-Identifier: GPL-3.0-or-later
"""Repair of what free vertices do to a mesh: triangles folded back over their neighbors, and slivers."""

from __future__ import annotations

import torch
from torch import Tensor

from . import untangle
from .half_edges import HalfEdges
from .mesh import face_areas
from .rings import grown

FOLD_DEGREES = 150.0  # between the normals of two triangles that share an edge
SLIVER = 1e-2  # of the mean area
NEEDLE = 1e-2  # height of a triangle by its longest edge
STUBBORN = 8  # rounds after which what is left is smoothed, for better or worse


def find_faults(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Which triangles [T] bool are folded over a neighbor, or are slivers."""
    areas = face_areas(vertices, triangles)
    mesh = HalfEdges.of(vertices, triangles)
    return untangle.find_faults(mesh, FOLD_DEGREES, SLIVER * float(areas.mean()), NEEDLE).to(vertices.device)


@torch.no_grad()
def unfold(vertices: Tensor, triangles: Tensor, rounds: int = 60) -> Tensor:
    """Vertices [V, 3] of which those near faulty triangles are moved, until no fault is left or the rounds are over.

    Topology stays, and so does all that is farther than a few triangles from a fault. Returns the round with the fewest
    faults: where the surface is thinner than its triangles, there may be no place without any.
    """
    if not len(triangles):
        return vertices
    faces = triangles.long().cpu()
    mesh = HalfEdges.of(vertices, faces)
    mean_area = float(face_areas(mesh.points, faces).mean())
    best, fewest = mesh.points.clone(), len(faces) + 1
    for step in range(rounds):
        faults = untangle.find_faults(mesh, FOLD_DEGREES, SLIVER * mean_area, NEEDLE)
        count = int(faults.sum())
        if count < fewest:
            best, fewest = mesh.points.clone(), count
        if not count:
            break
        corners = torch.unique(faces[faults])
        if step % STUBBORN == STUBBORN - 1:
            _smooth(mesh.points, faces, corners)
        near = torch.zeros(len(mesh.points), dtype=torch.bool)
        near[corners] = True
        near = grown(near, faces, 1 + step // STUBBORN)  # the longer it takes, the farther around
        corners = torch.nonzero(near)[:, 0]
        untangle.search(mesh, corners, mean_area, step)
    if torch.equal(best, vertices.cpu().float()):
        return vertices
    return best.to(vertices.device, vertices.dtype)


def _smooth(points: Tensor, faces: Tensor, chosen: Tensor) -> None:
    """Moves the chosen vertices half of the way to the mean of their triangles' corners, in place."""
    near = torch.zeros(len(points), dtype=torch.bool)
    near[chosen] = True
    around = faces[near[faces].any(1)]
    sums = torch.zeros(len(points), 3).index_add_(0, around.reshape(-1), points[around].sum(1).repeat_interleave(3, 0))
    count = torch.bincount(around.reshape(-1), minlength=len(points))[chosen, None]
    points[chosen] = torch.lerp(points[chosen], sums[chosen] / (3 * count), 0.5)
