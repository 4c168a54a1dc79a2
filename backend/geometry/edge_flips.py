# SPDX-License-Identifier: GPL-3.0-or-later
"""Flipping of edges, one after the other: an edge comes to join the tips of its triangles instead of its ends."""

from __future__ import annotations

import math

import warp as wp

from backend.geometry.edge_operations import doubled, shape_of
from backend.geometry.half_edges import Links, following, joined, leave, link, preceding
from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)

FLAT = wp.constant(math.cos(math.radians(40.0)))  # pairs of triangles that may be flipped are flat within 40 degrees
SLIVER = wp.constant(0.25)  # shape below which a triangle is flipped away whatever the valences
SIX, FOUR = wp.constant(6), wp.constant(4)  # neighbors of an even vertex, inside and at borders


@wp.func
def excess(m: Links, v: int) -> int:
    """Neighbors of a vertex beyond what an even mesh has."""
    return m.degree[v] - wp.where(m.twin[m.out[v]] < 0, FOUR, SIX)


@wp.func
def swap_diagonal(m: Links, h: int, only_poor: bool) -> bool:
    """Flip an edge if that evens the valences, or opens a sliver, and keeps shape and manifold."""
    g = m.twin[h]
    if g < 0 or m.crease[h] > 0:
        return False
    a = m.corner[h]
    b = m.corner[g]
    c = m.corner[preceding(h)]
    d = m.corner[preceding(g)]
    pa = m.points[a]
    pb = m.points[b]
    pc = m.points[c]
    pd = m.points[d]
    was = wp.min(shape_of(pa, pb, pc), shape_of(pb, pa, pd))
    poor = was < SLIVER
    if not poor:
        if only_poor:
            return False
        ea = excess(m, a)
        eb = excess(m, b)
        ec = excess(m, c)
        ed = excess(m, d)
        before = wp.abs(ea) + wp.abs(eb) + wp.abs(ec) + wp.abs(ed)
        after = wp.abs(ea - 1) + wp.abs(eb - 1) + wp.abs(ec + 1) + wp.abs(ed + 1)
        if after >= before:
            return False
    if c == d or m.degree[a] <= 3 or m.degree[b] <= 3:
        return False
    worst = wp.min(shape_of(pa, pd, pc), shape_of(pd, pb, pc))
    if poor:
        if worst <= 2.0 * was:
            return False
    elif worst <= 0.4 and worst <= was:
        return False
    old_one = doubled(pa, pb, pc)
    old_two = doubled(pb, pa, pd)
    # A sliver's own normal says nothing.
    if not poor and wp.dot(wp.normalize(old_one), wp.normalize(old_two)) <= FLAT:
        return False
    mean = wp.normalize(old_one + old_two)
    if wp.dot(wp.normalize(doubled(pa, pd, pc)), mean) <= FLAT:
        return False
    if wp.dot(wp.normalize(doubled(pd, pb, pc)), mean) <= FLAT:
        return False
    if joined(m, c, d):
        return False
    turn_edge(m, h)
    return True


@wp.func
def turn_edge(m: Links, h: int) -> None:
    """Let an inner edge join the two tips of its triangles instead of its ends."""
    g = m.twin[h]
    h1 = following(h)
    h2 = preceding(h)
    g1 = following(g)
    g2 = preceding(g)
    a = m.corner[h]
    b = m.corner[g]
    c = m.corner[h2]
    d = m.corner[g2]
    bc = m.twin[h1]
    ca = m.twin[h2]
    ad = m.twin[g1]
    db = m.twin[g2]
    crease_bc = m.crease[h1]
    crease_ca = m.crease[h2]
    crease_ad = m.crease[g1]
    crease_db = m.crease[g2]
    # Triangle of h: a, d, c; triangle of g: b, c, d.
    m.corner[h] = a
    m.corner[h1] = d
    m.corner[h2] = c
    m.corner[g] = b
    m.corner[g1] = c
    m.corner[g2] = d
    link(m, h, ad)
    link(m, h1, g1)
    link(m, h2, ca)
    link(m, g, bc)
    link(m, g2, db)
    m.twin[h] = ad
    m.twin[h2] = ca
    m.twin[g] = bc
    m.twin[g2] = db
    m.crease[h] = crease_ad
    m.crease[h1] = 0
    m.crease[h2] = crease_ca
    m.crease[g] = crease_bc
    m.crease[g1] = 0
    m.crease[g2] = crease_db
    m.degree[a] = m.degree[a] - 1
    m.degree[b] = m.degree[b] - 1
    m.degree[c] = m.degree[c] + 1
    m.degree[d] = m.degree[d] + 1
    leave(m, h)
    leave(m, g)
    leave(m, h2)
    leave(m, g2)


@wp.kernel
def flip_edges(m: Links, only_poor: bool) -> None:
    """Flip what `swap_diagonal` finds good, edge by edge."""
    done = wp.int32(0)
    for h in range(3 * m.counts[1]):
        if m.corner[h] >= 0 and m.twin[h] < h:
            if swap_diagonal(m, h, only_poor):
                done += 1
    m.counts[2] = done
