# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vertices of a mesh lie on (smooth surface, line, corner), and where smoothing would move them."""

from __future__ import annotations

import math

import torch
import warp as wp
from torch import Tensor

from backend.geometry.closest_point import ClosestPoint
from backend.geometry.edge_operations import ON_CORNER, ON_LINE, ON_SMOOTH, doubled, shape_of
from backend.geometry.half_edges import HalfEdges, Links, following, preceding
from backend.geometry.half_edges import turn as turned
from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)

BEND = 45.0  # degrees by which a crease turns at a corner
NOISE = 0.1  # a larger share of creases is noise, not shape
STRAIGHT = wp.constant((2.0 * math.sin(math.radians(0.5 * BEND))) ** 2)


@wp.kernel
def _find_creases(first: int, m: Links, cosine: float) -> None:
    """crease = 1 at borders, 2 where the triangles of an edge turn by more than the angle of that cosine, else 0."""
    h = first + wp.tid()
    g = m.twin[h]
    a = m.corner[h]
    if a >= 0:
        m.crease[h] = 1
        if g >= 0:
            b = m.corner[g]
            one = doubled(m.points[a], m.points[b], m.points[m.corner[preceding(h)]])
            two = doubled(m.points[b], m.points[a], m.points[m.corner[preceding(g)]])
            limit = cosine * wp.length(one) * wp.length(two)
            m.crease[h] = wp.where(wp.dot(one, two) < limit, 2, 0)


@wp.kernel
def _find_kinds(first: int, m: Links, least: int) -> None:
    """Kind of each vertex; creases are half-edges of `crease` from `least` down to 1."""
    v = first + wp.tid()
    count = wp.int32(0)
    bend = wp.vec3(0.0, 0.0, 0.0)
    h = m.out[v]
    while h >= 0:
        if m.crease[h] > 0 and m.crease[h] <= least:
            count += 1
            bend += wp.normalize(m.points[m.corner[following(h)]] - m.points[v])
        p = preceding(h)
        if m.twin[p] < 0:
            count += 1
            bend += wp.normalize(m.points[m.corner[p]] - m.points[v])
        h = turned(m, h)
    m.kind[v] = ON_CORNER
    if count == 0:
        m.kind[v] = ON_SMOOTH
    elif count == 2 and wp.length_sq(bend) < STRAIGHT:
        m.kind[v] = ON_LINE


def find_features(mesh: HalfEdges, angle: float | None) -> None:
    """Set `crease` and `kind`: creases turn by more than the angle in degrees. None, or so many creases that they are
    noise: only borders count."""
    cosine = -2.0 if angle is None else math.cos(math.radians(angle))
    count = 3 * mesh.triangle_count
    bridge.launch_range(_find_creases, count, [mesh.links, cosine])
    alive = 3 * int((mesh.faces[:, 0] >= 0).sum())
    crease = mesh.crease[:count]
    sharp = int((crease == 2).sum())
    # Half-edges of inner edges come in pairs: about two of each edge.
    least = 2 if sharp < NOISE * alive else 1
    bridge.launch_range(_find_kinds, mesh.vertex_count, [mesh.links, least])
    crease.copy_((crease > 0) & (crease <= least))


@wp.kernel
def _wish(first: int, m: Links, strength: float, wishes: wp.array(dtype=wp.vec3)) -> None:
    """Where smoothing wants a vertex: toward the center of its triangles in the tangent plane; on a crease, toward the
    middle of its neighbors along it."""
    v = first + wp.tid()
    normal = wp.vec3(0.0, 0.0, 0.0)
    center = wp.vec3(0.0, 0.0, 0.0)
    total = wp.float32(0.0)
    ahead = wp.vec3(0.0, 0.0, 0.0)
    behind = wp.vec3(0.0, 0.0, 0.0)
    creases = wp.int32(0)
    here = m.points[v]
    h = m.out[v]
    while h >= 0:
        b = m.points[m.corner[following(h)]]
        p = preceding(h)
        c = m.points[m.corner[p]]
        double = doubled(here, b, c)
        area = wp.length(double)
        normal += double
        center += (here + b + c) * (area / 3.0)
        total += area
        if m.crease[h] > 0:
            behind = ahead
            ahead = b - here
            creases += 1
        if m.twin[p] < 0:
            behind = ahead
            ahead = c - here
            creases += 1
        h = turned(m, h)
    move = wp.vec3(0.0, 0.0, 0.0)
    if m.kind[v] == ON_SMOOTH and total > 0.0:
        move = center / total - here
        up = wp.normalize(normal)
        move = move - up * wp.dot(up, move)
    elif m.kind[v] == ON_LINE and creases == 2:
        along = wp.normalize(ahead - behind)
        move = along * (0.5 * wp.dot(ahead + behind, along))
    wishes[v] = here + strength * move


@wp.kernel
def _object(first: int, m: Links, moved: wp.array(dtype=wp.vec3), back: wp.array(dtype=wp.int32)) -> None:
    """Marks the corners of triangles that would turn over or degenerate."""
    f = first + wp.tid()
    i = m.corner[3 * f]
    j = m.corner[3 * f + 1]
    k = m.corner[3 * f + 2]
    if i >= 0:
        old = doubled(m.points[i], m.points[j], m.points[k])
        new = doubled(moved[i], moved[j], moved[k])
        bad = wp.dot(old, new) < 0.5 * wp.length(old) * wp.length(new)
        shape = shape_of(moved[i], moved[j], moved[k])
        if shape < 0.3:
            bad = bad or shape < shape_of(m.points[i], m.points[j], m.points[k])
        if bad:
            back[i] = 1
            back[j] = 1
            back[k] = 1


def smooth(mesh: HalfEdges, surface: ClosestPoint, strength: float = 0.8) -> None:
    """Moves vertices towards the center of their triangles in the tangent plane and back onto the surface; vertices of
    a crease along it, corners not at all. A vertex whose triangles would turn over or degenerate stays."""
    count = mesh.vertex_count
    wishes = torch.empty((count, 3))
    bridge.launch_range(_wish, count, [mesh.links, strength], [bridge.as_array(wishes, wp.vec3)])
    points, moved = mesh.points[:count], surface(wishes.to(surface.device))[0].cpu()
    moved = torch.where((mesh.kind[:count] == ON_CORNER)[:, None], points, moved)
    back = torch.empty(count, dtype=torch.int32)
    for _ in range(10):
        back.zero_()
        arrays = [bridge.as_array(moved, wp.vec3), bridge.as_array(back, wp.int32)]
        bridge.launch_range(_object, mesh.triangle_count, [mesh.links], arrays)  # all that it writes are ones
        objected: Tensor = back > 0
        if not bool(objected.any()):
            points.copy_(moved)
            return
        moved[objected] = points[objected]
