# SPDX-License-Identifier: GPL-3.0-or-later
"""Isotropic remeshing (Botsch & Kobbelt 2004): split long edges, collapse short ones, flip towards even valence, smooth
in the tangent plane, project back onto the input.

Edges are edited on the CPU, whatever the device of the mesh: one after the other, in the order that serves shape best.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
import warp as wp
from torch import Tensor

from backend.geometry import edge_flips, edge_operations
from backend.geometry.closest_point import ClosestPoint
from backend.geometry.half_edges import HalfEdges
from backend.geometry.manifold import split_nonmanifold
from backend.geometry.mesh import face_areas
from backend.geometry.relaxation import find_features, smooth
from backend.geometry.unfold import unfold
from backend.kernels import bridge

LONGEST, SHORTEST = 4.0 / 3.0, 4.0 / 5.0  # of the target length; the published bounds


def target_edge_for(vertices: Tensor, triangles: Tensor, target_triangles: int) -> float:
    """Edge length at which equilateral triangles of that number have the mesh's area."""
    area = float(face_areas(vertices.double(), triangles).sum())
    return math.sqrt(4.0 * area / (math.sqrt(3.0) * max(target_triangles, 1)))


@torch.no_grad()
def remesh(
    vertices: Tensor,
    triangles: Tensor,
    target_edge: float | None = None,
    target_triangles: int | None = None,
    iterations: int = 5,
    feature_angle: float | None = 60.0,
    time_limit_s: float = math.inf,
    progress: Callable[[float], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Even triangles of edge length `target_edge` (world units), or of about `target_triangles`, on the same surface.

    vertices [V, 3], triangles [T, 3]: an oriented 2-manifold with or without border (`mesh.clean` makes one), which it
    stays. Edges whose faces turn by more than `feature_angle` degrees are kept as creases (None: no creases). Stops
    early at the time limit; whatever it returns is sound.
    """
    assert (target_edge is None) != (target_triangles is None)
    if not len(triangles):
        return vertices, triangles
    start = time.monotonic()
    center = vertices.mean(0)
    scale = float((vertices - center).abs().max()) or 1.0
    points, faces = ((vertices - center) / scale).float().cpu(), triangles.long().cpu()
    points, faces, _ = split_nonmanifold(points, faces)
    surface = ClosestPoint(points.to(vertices.device), faces.to(vertices.device))
    wanted = target_edge / scale if target_edge is not None else 0.0
    for step in range(iterations):
        if target_triangles is not None:
            # The bounds leave edges somewhat shorter than their target; the count tells by how much.
            ideal = target_edge_for(points, faces, target_triangles)
            wanted = ideal if step == 0 else wanted * min(max(math.sqrt(len(faces) / target_triangles), 0.9), 1.1)
        mesh = HalfEdges.of(points, faces)
        find_features(mesh, feature_angle)
        split_long(mesh, LONGEST * wanted)
        find_features(mesh, feature_angle)
        collapse_short(mesh, SHORTEST * wanted, LONGEST * wanted)
        find_features(mesh, feature_angle)
        flip_edges(mesh)
        find_features(mesh, feature_angle)
        smooth(mesh, surface)
        points, faces = mesh.compact()
        if progress is not None:
            progress((step + 1) / iterations)
        if time.monotonic() - start > time_limit_s:
            break
    # Needles left beside creases: there the shape of triangles counts for more than the crease.
    mesh = HalfEdges.of(points, faces)
    find_features(mesh, None)
    collapse_short(mesh, 0.3 * wanted, 2.0 * wanted, rounds=20, enough=1)
    flip_edges(mesh, rounds=3, only_poor=True)
    points, faces = mesh.compact()
    points = unfold(points, faces)
    points = points.to(vertices.device, vertices.dtype)
    return points * scale + center, faces.to(triangles.device, triangles.dtype)


def edges_outside(mesh: HalfEdges, low: float, high: float) -> Tensor:
    """A half-edge [N] int32 of each edge shorter than `low` or longer than `high`, the shortest first."""
    found = torch.empty(3 * mesh.triangle_count, dtype=torch.int32)
    lengths = torch.empty(len(found))
    arrays = [bridge.as_array(found, wp.int32), bridge.as_array(lengths, wp.float32)]
    bridge.launch(edge_operations.list_edges, 1, [mesh.links, low, high], arrays)
    count = int(mesh.counts[2])
    order = np.argsort(lengths[:count].numpy(), kind="stable")
    return found[torch.from_numpy(order)]


def split_long(mesh: HalfEdges, longest: float, rounds: int = 30) -> None:
    """Halves every edge above `longest`, the longest first."""
    for _ in range(rounds):
        order = edges_outside(mesh, 0.0, longest).flip(0)
        if not len(order):
            break
        mesh.reserve(len(order), 2 * len(order))
        arguments = [mesh.links, bridge.as_array(order, wp.int32), longest]
        bridge.launch(edge_operations.split_edges, 1, arguments)


def collapse_short(mesh: HalfEdges, shortest: float, longest: float, rounds: int = 6, enough: int = 0) -> None:
    """Collapses edges below `shortest`, the shortest first, where topology (link condition), creases and normals allow
    it and no edge becomes longer than `longest`. Ends after a round of fewer collapses than `enough` (0: one in 1000
    triangles)."""
    for _ in range(rounds):
        order = edges_outside(mesh, shortest, math.inf)
        if not len(order):
            break
        arguments = [mesh.links, bridge.as_array(order, wp.int32), shortest, longest]
        bridge.launch(edge_operations.collapse_edges, 1, arguments)
        if int(mesh.counts[2]) < (enough or 1 + mesh.triangle_count // 1000):
            break


def flip_edges(mesh: HalfEdges, rounds: int = 4, only_poor: bool = False) -> None:
    """Flips edges while that brings valences closer to 6 (4 at borders) and keeps shape and manifold."""
    for _ in range(rounds):
        bridge.launch(edge_flips.flip_edges, 1, [mesh.links, only_poor])
        if int(mesh.counts[2]) <= mesh.triangle_count // 2000:
            break
