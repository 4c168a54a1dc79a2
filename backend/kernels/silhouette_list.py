# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pairs of neighboring pixels a silhouette may cross: those along the edges between triangles that face the
viewer and triangles that do not.

There are few of them. What looks for silhouettes and what blends across them has a few thousand pairs to look at
instead of millions.
"""

from typing import Any, NamedTuple

import torch
import warp as wp

from backend.kernels import bridge
from backend.kernels.screen import cross2, relative

wp.set_module_options({**bridge.MODULE_OPTIONS, "fuse_fp": False})

#: In place of an edge: none, or not looked for yet.
NO_EDGE, LISTED = wp.constant(-1), wp.constant(-3)
#: Threads that share a list of pairs, whatever its length, which the host does not know.
SHARING = 1 << 16
#: Relative rounding error of a corner's place in the image, generously.
PLACE_ERROR = wp.constant(wp.float32(1e-6))
#: Smallest w of an edge's visible part, as a share of its ends'.
W_SHARE = wp.constant(wp.float64(1e-6))
#: Edges are drawn this much wider, in pixels: well above the rounding error of their ends.
MARGIN = wp.constant(wp.float64(1.0 / 64.0))
#: Edges this much flatter than the diagonal still count as steep, and the other way round.
DIAGONAL = wp.constant(wp.float64(0.999))


class Silhouettes(NamedTuple):
    """The edge between each pixel and its right and its lower neighbor.

    Attributes:
        edges: [B*H*W, 2] int32, 2 (3 triangle + edge), + 1 if the right or lower pixel owns it; -1 for none. Each edge
            stands only in the pairs along the axis that it is steeper to.
        pairs: [2*B*H*W] int32 or None, where pairs were listed: 2 pixel + axis, each once, in no order.
        used: [1] int32 or None, how many places of `pairs` are in use. The other pairs have no edge.
    """

    edges: torch.Tensor
    pairs: torch.Tensor | None
    used: torch.Tensor | None

    def shared(self) -> list[Any]:
        """Arguments of kernels whose threads share the list: their number, `pairs`, `used`."""
        assert self.pairs is not None and self.used is not None
        return [SHARING, bridge.as_warp(self.pairs, wp.int32), bridge.as_warp(self.used, wp.int32)]


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
def list_line(
    a: wp.vec2d,
    b: wp.vec2d,
    along: wp.int32,
    across: wp.int32,
    first: wp.int32,
    step_along: wp.int32,
    step_across: wp.int32,
    axis: wp.int32,
    edges: wp.array2d(dtype=wp.int32),
    pairs: wp.array(dtype=wp.int32),
    count: wp.array(dtype=wp.int32),
):
    """Lists the pairs of pixels that the line ab crosses, one row of pairs after the other.

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
            p = first + i * step_along + j * step_across
            if wp.atomic_min(edges, p, axis, LISTED) == NO_EDGE:  # the first to come here
                pairs[wp.atomic_add(count, 0, 1)] = 2 * p + axis


@wp.func
def to_pixels(v: wp.vec4d, height: wp.int32, width: wp.int32) -> wp.vec2d:
    """(column, row) of a clip position, in pixels from the image's top-left corner."""
    one = wp.float64(1.0)
    half = wp.float64(0.5)
    return wp.vec2d((v[0] / v[3] + one) * half * wp.float64(width), (one - v[1] / v[3]) * half * wp.float64(height))


@wp.func
def list_edge(
    start: wp.vec4,
    end: wp.vec4,
    view: wp.int32,
    height: wp.int32,
    width: wp.int32,
    edges: wp.array2d(dtype=wp.int32),
    pairs: wp.array(dtype=wp.int32),
    count: wp.array(dtype=wp.int32),
):
    """Lists the pairs of pixels along the axis that measures this edge's coverage best. Doubles, since an edge may
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
        list_line(p, q, height, width, first, width, 1, 0, edges, pairs, count)
    if wide >= DIAGONAL * tall:
        list_line(wp.vec2d(p[1], p[0]), wp.vec2d(q[1], q[0]), width, height, first, 1, width, 1, edges, pairs, count)


@wp.kernel
def _list_silhouettes(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    neighbors: wp.array(dtype=wp.vec3i),
    facings: wp.array2d(dtype=wp.int8),
    height: wp.int32,
    width: wp.int32,
    edges: wp.array2d(dtype=wp.int32),
    pairs: wp.array(dtype=wp.int32),
    count: wp.array(dtype=wp.int32),
):
    """One thread per (view, triangle). `edges`, NO_EDGE at first, is LISTED at what stands in the list."""
    tid = wp.tid()
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
                    list_edge(clip[view, first], clip[view, second], view, height, width, edges, pairs, count)


def list_pairs(
    clip: torch.Tensor, triangles: torch.Tensor, neighbors: torch.Tensor, shape: tuple[int, int, int]
) -> Silhouettes:
    """The pairs of pixels that have to be looked at, whose edges are LISTED.

    Args:
        clip: [B, V, 4] float32 clip positions that were rasterized.
        triangles: [T, 3] int32.
        neighbors: [T, 3] int32 from `antialias.build_neighbors`.
        shape: B, H, W of the images.
    """
    views, height, width = shape
    device, pixels = clip.device, views * height * width
    edges = torch.full((pixels, 2), NO_EDGE, dtype=torch.int32, device=device)
    pairs = torch.empty(2 * pixels, dtype=torch.int32, device=device)
    count = torch.zeros(1, dtype=torch.int32, device=device)
    facings = torch.empty((views, len(triangles)), dtype=torch.int8, device=device)
    places = [bridge.as_warp(clip, wp.vec4), bridge.as_warp(triangles, wp.vec3i)]
    faces = bridge.as_warp(facings, wp.int8)
    bridge.launch_range(_find_facings, facings.numel(), places, [faces], device)
    inputs = [*places, bridge.as_warp(neighbors, wp.vec3i), faces, height, width]
    outputs = [bridge.as_warp(x, wp.int32) for x in (edges, pairs, count)]
    bridge.launch(_list_silhouettes, facings.numel(), inputs, outputs, device)
    return Silhouettes(edges, pairs, count)
