# SPDX-License-Identifier: GPL-3.0-or-later
"""Splitting and collapsing of edges, one after the other, where shape and topology allow it.

The kernels run as one thread over a list of half-edges that the caller has ordered. They check every one anew, since
the operations before it may have changed or removed it.
"""

from __future__ import annotations

import warp as wp

from backend.geometry.half_edges import CORNER, LINE, SMOOTH, Links, following, leave, link, new_mark, preceding
from backend.geometry.half_edges import turn as turned
from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)

ON_SMOOTH, ON_LINE, ON_CORNER = wp.constant(SMOOTH), wp.constant(LINE), wp.constant(CORNER)


@wp.func
def doubled(a: wp.vec3, b: wp.vec3, c: wp.vec3) -> wp.vec3:
    """Normal of a triangle with twice its area as length."""
    return wp.cross(b - a, c - a)


@wp.func
def longest_edge(a: wp.vec3, b: wp.vec3, c: wp.vec3) -> float:
    """Square of the longest edge."""
    return wp.max(wp.length_sq(b - a), wp.max(wp.length_sq(c - b), wp.length_sq(a - c)))


@wp.func
def shape_of(a: wp.vec3, b: wp.vec3, c: wp.vec3) -> float:
    """4√3 · area / sum of squared edges: 1 for equilateral triangles, 0 for degenerate ones."""
    squares = wp.length_sq(b - a) + wp.length_sq(c - b) + wp.length_sq(a - c)
    return 3.4641016 * wp.length(doubled(a, b, c)) / wp.max(squares, 1.0e-30)


@wp.kernel
def list_edges(
    m: Links, low: float, high: float, found: wp.array(dtype=wp.int32), lengths: wp.array(dtype=float)
) -> None:
    """One half-edge of each edge that is shorter than `low` or longer than `high`, and its squared length."""
    count = wp.int32(0)
    for h in range(3 * m.counts[1]):
        if m.corner[h] < 0 or m.twin[h] > h:
            continue
        square = wp.length_sq(m.points[m.corner[h]] - m.points[m.corner[following(h)]])
        if square < low * low or square > high * high:
            found[count] = h
            lengths[count] = square
            count += 1
    m.counts[2] = count


@wp.func
def halve(m: Links, h: int) -> None:
    """Put a vertex in the middle of an edge; its triangles become two each."""
    v = m.counts[0]
    f = m.counts[1]
    a = m.corner[h]
    b = m.corner[following(h)]
    g = m.twin[h]
    flag = m.crease[h]
    m.points[v] = 0.5 * (m.points[a] + m.points[b])
    m.kind[v] = wp.where(flag > 0, ON_LINE, ON_SMOOTH)
    m.marks[v] = 0
    m.counts[0] = v + 1

    # a→b becomes a→v; the new triangle is v, b, c.
    h1 = following(h)
    c = m.corner[preceding(h)]
    n = 3 * f
    m.corner[n] = v
    m.corner[n + 1] = b
    m.corner[n + 2] = c
    m.crease[n] = flag
    m.crease[n + 1] = m.crease[h1]
    m.crease[n + 2] = 0
    link(m, n + 1, m.twin[h1])
    m.corner[h1] = v
    m.crease[h1] = 0
    link(m, h1, n + 2)
    m.twin[n] = -1
    m.degree[c] = m.degree[c] + 1
    m.degree[v] = 3
    m.counts[1] = f + 1
    m.out[v] = n
    if m.out[b] == h1:
        m.out[b] = n + 1
    if g >= 0:
        # b→a becomes b→v; the new triangle is v, a, d.
        g1 = following(g)
        d = m.corner[preceding(g)]
        k = n + 3
        m.corner[k] = v
        m.corner[k + 1] = a
        m.corner[k + 2] = d
        m.crease[k] = flag
        m.crease[k + 1] = m.crease[g1]
        m.crease[k + 2] = 0
        link(m, k + 1, m.twin[g1])
        m.corner[g1] = v
        m.crease[g1] = 0
        link(m, g1, k + 2)
        link(m, h, k)
        link(m, g, n)
        m.degree[d] = m.degree[d] + 1
        m.degree[v] = 4
        m.counts[1] = f + 2
        if m.out[a] == g1:
            m.out[a] = k + 1


@wp.kernel
def split_edges(m: Links, order: wp.array(dtype=wp.int32), longest: float) -> None:
    """Halve the edges that are still longer than `longest`; there must be room for a vertex and two triangles each."""
    for i in range(order.shape[0]):
        h = order[i]
        if wp.length(m.points[m.corner[h]] - m.points[m.corner[following(h)]]) > longest:
            halve(m, h)


@wp.func
def common_neighbors(m: Links, a: int, b: int) -> int:
    """Number of vertices joined to both."""
    mark = new_mark(m)
    h = m.out[a]
    while h >= 0:
        m.marks[m.corner[following(h)]] = mark
        m.marks[m.corner[preceding(h)]] = mark
        h = turned(m, h)
    count = wp.int32(0)
    h = m.out[b]
    while h >= 0:
        n = m.corner[following(h)]
        if m.marks[n] == mark and n != a:
            count += 1
            m.marks[n] = 0
        n = m.corner[preceding(h)]
        if m.marks[n] == mark and n != a:
            count += 1
            m.marks[n] = 0
        h = turned(m, h)
    return count


@wp.func
def normal_without(m: Links, v: int, other: int) -> wp.vec3:
    """Sum of the normals of the triangles at a vertex that do not have the other."""
    result = wp.vec3(0.0, 0.0, 0.0)
    h = m.out[v]
    while h >= 0:
        b = m.corner[following(h)]
        c = m.corner[preceding(h)]
        if b != other and c != other:
            result += doubled(m.points[v], m.points[b], m.points[c])
        h = turned(m, h)
    return result


@wp.func
def spoils(m: Links, v: int, other: int, position: wp.vec3, around: wp.vec3, limit: float) -> bool:
    """Whether a triangle at a vertex, but not at the other, would turn over, get too long or become a needle."""
    found = wp.bool(False)
    h = m.out[v]
    while h >= 0:
        ib = m.corner[following(h)]
        ic = m.corner[preceding(h)]
        if ib != other and ic != other:
            b = m.points[ib]
            c = m.points[ic]
            old = doubled(m.points[v], b, c)
            new = doubled(position, b, c)
            old_area = wp.length(old)
            new_area = wp.length(new)
            old_longest = longest_edge(m.points[v], b, c)
            new_longest = longest_edge(position, b, c)
            if old_area > 0.02 * old_longest:
                found = found or wp.dot(old, new) < 0.5 * old_area * new_area
            else:
                # A needle's normal says little: what replaces it must face like its surroundings.
                found = found or wp.dot(around, new) < 0.0
            found = found or new_longest > wp.max(old_longest, limit * limit)
            found = found or (new_area < 0.1 * new_longest and new_area * old_longest < old_area * new_longest)
            found = found or new_area < 1.0e-5 * new_longest
            if found:
                break
        h = turned(m, h)
    return found


@wp.func
def close_side(m: Links, h: int) -> None:
    """Take out the triangle of a half-edge whose ends become one vertex: its other two edges become one."""
    h1 = following(h)
    h2 = preceding(h)
    one = m.twin[h1]
    two = m.twin[h2]
    c = m.corner[h2]
    a = m.corner[h]
    flag = wp.max(m.crease[h1], m.crease[h2])
    m.corner[h] = -1
    m.corner[h1] = -1
    m.corner[h2] = -1
    link(m, one, two)
    if one >= 0:
        m.crease[one] = flag
        m.twin[one] = two
        m.out[c] = one
        m.out[a] = following(one)
    if two >= 0:
        m.crease[two] = flag
        m.twin[two] = one
        m.out[c] = following(two)
        m.out[a] = two
    m.degree[c] = m.degree[c] - 1
    leave(m, m.out[c])


@wp.func
def join_ends(m: Links, h: int, limit: float, shortest: float) -> bool:
    """Collapse an edge shorter than `shortest` if topology (link condition), creases and normals allow it."""
    a = m.corner[h]
    b = m.corner[following(h)]
    g = m.twin[h]
    inner = g >= 0
    good = wp.length_sq(m.points[a] - m.points[b]) < shortest * shortest
    # Two feature vertices may only join along their crease, two corners never.
    lesser = wp.min(m.kind[a], m.kind[b])
    good = good and (lesser == ON_SMOOTH or (m.crease[h] > 0 and lesser == ON_LINE))
    good = good and m.degree[m.corner[preceding(h)]] > 3
    sides = wp.int32(1)
    if inner:
        good = good and m.degree[m.corner[preceding(g)]] > 3
        sides = 2
    if not good:
        return False
    if common_neighbors(m, a, b) != sides:
        return False
    position = 0.5 * (m.points[a] + m.points[b])
    if m.kind[a] > m.kind[b]:
        position = m.points[a]
    if m.kind[b] > m.kind[a]:
        position = m.points[b]
    around = normal_without(m, a, b) + normal_without(m, b, a)
    if spoils(m, a, b, position, around, limit):
        return False
    if spoils(m, b, a, position, around, limit):
        return False

    k = m.out[b]
    while k >= 0:
        following_one = turned(m, k)
        m.corner[k] = a
        if following_one < 0:
            break
        k = following_one
    m.out[b] = -1
    m.points[a] = position
    m.kind[a] = wp.max(m.kind[a], m.kind[b])
    m.degree[a] = m.degree[a] + m.degree[b] - 2 - sides
    close_side(m, h)
    if inner:
        close_side(m, g)
    leave(m, m.out[a])
    return True


@wp.kernel
def collapse_edges(m: Links, order: wp.array(dtype=wp.int32), shortest: float, limit: float) -> None:
    """Collapse the edges that are still shorter than `shortest` where that makes none longer than `limit`."""
    done = wp.int32(0)
    for i in range(order.shape[0]):
        h = order[i]
        if m.corner[h] >= 0:
            if join_ends(m, h, limit, shortest):
                done += 1
    m.counts[2] = done
