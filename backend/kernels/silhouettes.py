# SPDX-License-Identifier: GPL-3.0-or-later
"""Which silhouette edge lies between two neighboring pixels, if any.

Where the two see different triangles, the nearer one owns the boundary. From its pixel center we walk over the surface
towards the other center, triangle by triangle, until an edge behind which the surface ends or turns away. (Laine et al.
2020 look at the owner's own edges only, and so miss the silhouettes of triangles smaller than a pixel.)

Few pairs of pixels have a silhouette between them. On a GPU those are marked first, by drawing the edges between
triangles that face the viewer and triangles that do not: the walk is taken only where it will find something.
"""

import torch
import warp as wp

from backend.kernels import bridge
from backend.kernels.screen import cross2, pixel_to_ndc, relative

wp.set_module_options({**bridge.MODULE_OPTIONS, "fuse_fp": False})

#: Triangles a walk may cross between two pixel centers.
MAX_STEPS = wp.constant(128)
ONE_SURFACE = wp.constant(-1)
HIDDEN = wp.constant(-2)
#: Relative rounding error of a corner's place in the image, generously.
PLACE_ERROR = wp.constant(wp.float32(1e-6))
#: Smallest w of an edge's visible part, as a share of its ends'.
W_SHARE = wp.constant(wp.float64(1e-6))
#: Edges are drawn this much wider, in pixels: well above the rounding error of their ends.
MARGIN = wp.constant(wp.float64(1.0 / 64.0))
#: Edges this much flatter than the diagonal still count as steep, and the other way round.
DIAGONAL = wp.constant(wp.float64(0.999))


@wp.func
def facing(v0: wp.vec4, v1: wp.vec4, v2: wp.vec4) -> wp.int32:
    """1 if the triangle faces the viewer (or -1 on its other side), 0 where rounding may hide which."""
    result = wp.int32(0)
    if wp.abs(v0[3]) > 1.0e-3 * (wp.abs(v1[3]) + wp.abs(v2[3])):
        # relative to a corner, which keeps the sign for triangles far below a pixel
        p = wp.vec2(v0[0] / v0[3], v0[1] / v0[3])
        q1 = relative(v1, p)
        q2 = relative(v2, p)
        spread = wp.abs(p[0]) + wp.abs(p[1])
        size1 = wp.abs(v1[0]) + wp.abs(v1[1]) + spread * wp.abs(v1[3])
        size2 = wp.abs(v2[0]) + wp.abs(v2[1]) + spread * wp.abs(v2[3])
        error = PLACE_ERROR * (size1 * (wp.abs(q2[0]) + wp.abs(q2[1])) + size2 * (wp.abs(q1[0]) + wp.abs(q1[1])))
        area = cross2(q1, q2) * wp.sign(v0[3])
        if area > error:
            result = 1
        if area < -error:
            result = -1
    return result


@wp.kernel
def _find_facings(
    begin: wp.int32,
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    facings: wp.array2d(dtype=wp.int8),
):
    """One thread per (view, triangle)."""
    tid = begin + wp.tid()
    view = tid / triangles.shape[0]
    t = tid - view * triangles.shape[0]
    corners = triangles[t]
    facings[view, t] = wp.int8(facing(clip[view, corners[0]], clip[view, corners[1]], clip[view, corners[2]]))


@wp.func
def mark_line(
    a: wp.vec2d,
    b: wp.vec2d,
    along: wp.int32,
    across: wp.int32,
    first: wp.int32,
    step_along: wp.int32,
    step_across: wp.int32,
    axis: wp.int32,
    marks: wp.array2d(dtype=wp.uint8),
):
    """Marks the pairs of pixels that the line ab crosses, one row of pairs after the other.

    Points are (across, along): pairs lie side by side across the rows, which follow each other along the line. `along`
    rows of `across` pixels begin at pixel `first`, and neighbors differ by the steps.
    """
    low = wp.min(a[1], b[1])
    high = wp.max(a[1], b[1])
    half = wp.float64(0.5)
    begin = int(wp.clamp(wp.ceil(low - MARGIN - half), wp.float64(0.0), wp.float64(along)))
    end = int(wp.clamp(wp.floor(high + MARGIN - half), wp.float64(-1.0), wp.float64(along - 1)))
    slope = wp.float64(0.0)
    if high > low:
        slope = (b[0] - a[0]) / (b[1] - a[1])
    for i in range(begin, end + 1):
        y = wp.clamp(wp.float64(i) + half, low, high)
        x = wp.clamp(a[0] + slope * (y - a[1]) - half, wp.float64(-1.0), wp.float64(across))
        for j in range(wp.max(int(wp.floor(x - MARGIN)), 0), wp.min(int(wp.floor(x + MARGIN)), across - 2) + 1):
            marks[first + i * step_along + j * step_across, axis] = wp.uint8(1)


@wp.func
def to_pixels(v: wp.vec4d, height: wp.int32, width: wp.int32) -> wp.vec2d:
    """(column, row) of a clip position, in pixels from the image's top-left corner."""
    one = wp.float64(1.0)
    half = wp.float64(0.5)
    return wp.vec2d((v[0] / v[3] + one) * half * wp.float64(width), (one - v[1] / v[3]) * half * wp.float64(height))


@wp.func
def mark_edge(
    start: wp.vec4, end: wp.vec4, view: wp.int32, height: wp.int32, width: wp.int32, marks: wp.array2d(dtype=wp.uint8)
):
    """Marks the pairs of pixels along the axis that measures this edge's coverage best. Doubles, since an edge may
    come from far outside the image."""
    a = wp.vec4d(wp.float64(start[0]), wp.float64(start[1]), wp.float64(start[2]), wp.float64(start[3]))
    b = wp.vec4d(wp.float64(end[0]), wp.float64(end[1]), wp.float64(end[2]), wp.float64(end[3]))
    least = W_SHARE * wp.max(wp.abs(a[3]), wp.abs(b[3]))
    if wp.max(a[3], b[3]) <= least:
        return  # behind the viewer
    if a[3] < least:
        a = a + (b - a) * ((least - a[3]) / (b[3] - a[3]))
    if b[3] < least:
        b = b + (a - b) * ((least - b[3]) / (a[3] - b[3]))
    p = to_pixels(a, height, width)
    q = to_pixels(b, height, width)
    wide = wp.abs(q[0] - p[0])
    tall = wp.abs(q[1] - p[1])
    first = view * height * width
    if tall >= DIAGONAL * wide:
        mark_line(p, q, height, width, first, width, 1, 0, marks)
    if wide >= DIAGONAL * tall:
        mark_line(wp.vec2d(p[1], p[0]), wp.vec2d(q[1], q[0]), width, height, first, 1, width, 1, marks)


@wp.kernel
def _mark_silhouettes(
    begin: wp.int32,
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    neighbors: wp.array(dtype=wp.vec3i),
    facings: wp.array2d(dtype=wp.int8),
    height: wp.int32,
    width: wp.int32,
    marks: wp.array2d(dtype=wp.uint8),
):
    """One thread per (view, triangle). Several may mark the same pair, all with the same value."""
    tid = begin + wp.tid()
    view = tid / triangles.shape[0]
    t = tid - view * triangles.shape[0]
    own = facings[view, t]
    across = neighbors[t]
    for e in range(3):
        n = across[e]
        if n < t:  # the other triangle of an edge leaves it to this one
            turns = n < 0 or own == wp.int8(0)
            if not turns:
                turns = facings[view, n] != own
            if turns:
                corners = triangles[t]
                first = corners[e]
                second = corners[(e + 1) % 3]
                if first != second:  # unused places of a list of triangles have no edges
                    mark_edge(clip[view, first], clip[view, second], view, height, width, marks)


@wp.func
def edges_at(clip: wp.array2d(dtype=wp.vec4), view: wp.int32, corners: wp.vec3i, pixel: wp.vec2) -> wp.vec4:
    """Edge functions of edges (0, 1), (1, 2), (2, 0) at a pixel, and their sum times w: its sign is the facing."""
    v0 = clip[view, corners[0]]
    v1 = clip[view, corners[1]]
    v2 = clip[view, corners[2]]
    q0 = relative(v0, pixel)
    q1 = relative(v1, pixel)
    q2 = relative(v2, pixel)
    e0 = cross2(q0, q1)
    e1 = cross2(q1, q2)
    e2 = cross2(q2, q0)
    return wp.vec4(e0, e1, e2, e1 * v0[3] + e2 * v1[3] + e0 * v2[3])


@wp.func
def depth_at(clip: wp.array2d(dtype=wp.vec4), view: wp.int32, corners: wp.vec3i, pixel: wp.vec2) -> wp.float32:
    """z/w of a triangle's plane at a pixel."""
    e = edges_at(clip, view, corners, pixel)
    z = e[1] * clip[view, corners[0]][2] + e[2] * clip[view, corners[1]][2] + e[0] * clip[view, corners[2]][2]
    return z / e[3]


@wp.func
def find_edge(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    neighbors: wp.array(dtype=wp.vec3i),
    view: wp.int32,
    owner: wp.int32,
    other: wp.int32,
    start: wp.vec2,
    end: wp.vec2,
) -> wp.int32:
    """Silhouette edge met on the way from `start` in triangle `owner` to `end` in `other`, as 3 triangle + edge.

    ONE_SURFACE if both are visible parts of one surface, HIDDEN if the owner's surface goes on below the other.
    """
    current = int(owner)
    found = ONE_SURFACE
    e_start = edges_at(clip, view, triangles[current], start)
    side = wp.sign(e_start[3])
    for _step in range(MAX_STEPS):
        e_end = edges_at(clip, view, triangles[current], end)
        # leave through the edge whose line is crossed outwards first
        best = wp.float32(1.0)
        edge = wp.int32(-1)
        for k in range(3):
            inside = side * e_start[k]
            outside = side * e_end[k]
            if outside < 0.0 and inside > outside:
                t = inside / (inside - outside)
                if t < best:
                    best = t
                    edge = k
        if edge < 0:
            found = HIDDEN  # the end lies in this triangle
            break
        following = wp.int32(-1)
        if neighbors.shape[0] > 0:
            following = neighbors[current][edge]
        if following >= 0:
            e_start = edges_at(clip, view, triangles[following], start)
            if e_start[3] * side > 0.0:
                if following == other:
                    break
                current = following
                continue
        found = 3 * current + edge
        break
    return found


@wp.func
def edge_slope(a: wp.vec4, b: wp.vec4, height: wp.int32, width: wp.int32) -> wp.vec2:
    """Change of the edge function of ab per pixel in x and y, up to its sign: the normal of the edge in the image."""
    return wp.vec2((a[1] * b[3] - a[3] * b[1]) / float(width), (a[3] * b[0] - a[0] * b[3]) / float(height))


@wp.kernel
def _find_edges(
    begin: wp.int32,
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    neighbors: wp.array(dtype=wp.vec3i),
    triangle_ids: wp.array(dtype=wp.int32),
    marks: wp.array2d(dtype=wp.uint8),
    height: wp.int32,
    width: wp.int32,
    edges: wp.array2d(dtype=wp.int32),
):
    """edges[p, axis] of the pixel p and its right (0) or lower (1) neighbor: 2 (3 triangle + edge) + (the second owns).

    -1 where nothing is blended. Without marks every pair is looked at.
    """
    p = begin + wp.tid()
    i = (p / width) % height
    j = p % width
    view = p / (height * width)
    for axis in range(2):
        code = wp.int32(-1)
        q = p + 1
        valid = j + 1 < width
        if axis == 1:
            q = p + width
            valid = i + 1 < height
        if valid and marks.shape[0] > 0:
            valid = marks[p, axis] != wp.uint8(0)
        if valid:
            id0 = triangle_ids[p]
            id1 = triangle_ids[q]
            if id0 != id1:
                center0 = pixel_to_ndc(i, j, height, width)
                center1 = pixel_to_ndc(i + axis, j + 1 - axis, height, width)
                second = id0 < 0
                if id0 >= 0 and id1 >= 0:
                    depth0 = depth_at(clip, view, triangles[id0], center0)
                    second = depth_at(clip, view, triangles[id1], center1) < depth0
                edge = HIDDEN
                if not second:
                    edge = find_edge(clip, triangles, neighbors, view, id0, id1, center0, center1)
                    second = edge == HIDDEN and id1 >= 0
                    if second:
                        edge = find_edge(clip, triangles, neighbors, view, id1, id0, center1, center0)
                else:
                    edge = find_edge(clip, triangles, neighbors, view, id1, id0, center1, center0)
                    if edge == HIDDEN and id0 >= 0:
                        second = False
                        edge = find_edge(clip, triangles, neighbors, view, id0, id1, center0, center1)
                if edge >= 0:
                    corners = triangles[edge / 3]
                    k = edge % 3
                    slope = edge_slope(clip[view, corners[k]], clip[view, corners[(k + 1) % 3]], height, width)
                    # the other axis' pairs measure the coverage of flatter edges better
                    if wp.abs(slope[axis]) >= wp.abs(slope[1 - axis]):
                        code = 2 * edge
                        if second:
                            code += 1
        edges[p, axis] = code


def silhouette_edges(
    clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_ids: torch.Tensor,
    neighbors: torch.Tensor | None,
    marked: bool | None = None,
) -> torch.Tensor:
    """The edge between each pixel and its right and its lower neighbor.

    Args:
        clip: [B, V, 4] float32 clip positions that were rasterized.
        triangles: [T, 3] int32.
        triangle_ids: [B, H, W] int32 from `rasterize`.
        neighbors: [T, 3] int32 from `antialias.build_neighbors`. With None each edge counts as a silhouette.
        marked: whether pairs are marked first, which changes the time only. By default on CUDA: it looks at all
            triangles, of which a CPU, with few views at a time, has as many as pixels.

    Returns:
        [B*H*W, 2] int32: 2 (3 triangle + edge), + 1 if the right or lower pixel owns it; -1 for none. Each edge
        stands only in the pairs along the axis that it is steeper to.
    """
    views, height, width = triangle_ids.shape
    device = triangle_ids.device
    edges = torch.empty((triangle_ids.numel(), 2), dtype=torch.int32, device=device)
    if not len(edges):
        return edges
    shape = [bridge.as_warp(clip, wp.vec4), bridge.as_warp(triangles, wp.vec3i)]
    known = triangles[:0] if neighbors is None else neighbors
    across = bridge.as_warp(known, wp.vec3i)
    marked = (clip.is_cuda if marked is None else marked) and bool(len(known))
    marks = torch.zeros((len(edges) if marked else 0, 2), dtype=torch.uint8, device=device)
    crossed = bridge.as_warp(marks, wp.uint8)
    if marked:
        facings = torch.empty((views, len(triangles)), dtype=torch.int8, device=device)
        faces, count = bridge.as_warp(facings, wp.int8), facings.numel()
        bridge.launch_range(_find_facings, count, shape, [faces], device)
        bridge.launch_range(_mark_silhouettes, count, [*shape, across, faces, height, width], [crossed], device)
    ids = bridge.as_warp(triangle_ids.reshape(-1), wp.int32)
    found = [*shape, across, ids, crossed, height, width]
    bridge.launch_range(_find_edges, len(edges), found, [bridge.as_warp(edges, wp.int32)], device)
    return edges
