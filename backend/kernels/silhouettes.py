# SPDX-License-Identifier: GPL-3.0-or-later
"""Which silhouette edge lies between two neighboring pixels, if any.

Where the two see different triangles, the nearer one owns the boundary. From its pixel center we walk over the surface
towards the other center, triangle by triangle, until an edge behind which the surface ends or turns away. (Laine et al.
2020 look at the owner's own edges only, and so miss the silhouettes of triangles smaller than a pixel.)

On a GPU the pairs that may have one are listed first (`backend.kernels.silhouette_list`): the walk is taken only where
it will find something.
"""

from typing import Any

import torch
import warp as wp

from backend.kernels import bridge
from backend.kernels.screen import cross2, pixel_to_ndc, relative
from backend.kernels.silhouette_list import NO_EDGE, SHARING, Silhouettes, list_pairs

wp.set_module_options({**bridge.MODULE_OPTIONS, "fuse_fp": False})

#: Triangles a walk may cross between two pixel centers.
MAX_STEPS = wp.constant(128)
ONE_SURFACE = wp.constant(-1)
HIDDEN = wp.constant(-2)


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


@wp.func
def edge_between(
    p: wp.int32,
    axis: wp.int32,
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    neighbors: wp.array(dtype=wp.vec3i),
    triangle_ids: wp.array(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
) -> wp.int32:
    """The code, as `Silhouettes` has it, of a pixel and its right (axis 0) or lower (1) neighbor, which exists."""
    code = NO_EDGE
    i = (p / width) % height
    j = p % width
    view = p / (height * width)
    id0 = triangle_ids[p]
    id1 = triangle_ids[p + 1 + axis * (width - 1)]
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
    return code


@wp.kernel
def _find_edges(
    begin: wp.int32,
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    neighbors: wp.array(dtype=wp.vec3i),
    triangle_ids: wp.array(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    edges: wp.array2d(dtype=wp.int32),
):
    """One thread per pixel and its two pairs."""
    p = begin + wp.tid()
    for axis in range(2):
        code = NO_EDGE
        if (axis == 0 and p % width + 1 < width) or (axis == 1 and (p / width) % height + 1 < height):
            code = edge_between(p, axis, clip, triangles, neighbors, triangle_ids, height, width)
        edges[p, axis] = code


@wp.kernel
def _find_listed_edges(
    threads: wp.int32,
    pairs: wp.array(dtype=wp.int32),
    count: wp.array(dtype=wp.int32),
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    neighbors: wp.array(dtype=wp.vec3i),
    triangle_ids: wp.array(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    edges: wp.array2d(dtype=wp.int32),
):
    """The threads share the pairs of the list."""
    for k in range(wp.tid(), count[0], threads):
        p = pairs[k] / 2
        axis = pairs[k] % 2
        edges[p, axis] = edge_between(p, axis, clip, triangles, neighbors, triangle_ids, height, width)


def silhouette_edges(
    clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_ids: torch.Tensor,
    neighbors: torch.Tensor | None,
    listed: bool | None = None,
) -> Silhouettes:
    """Find the edges between neighboring pixels.

    Args:
        clip: [B, V, 4] float32 clip positions that were rasterized.
        triangles: [T, 3] int32.
        triangle_ids: [B, H, W] int32 from `rasterize`.
        neighbors: [T, 3] int32 from `antialias.build_neighbors`. With None each edge counts as a silhouette.
        listed: whether pairs are listed first, which changes the time only. By default on CUDA: it looks at all
            triangles, of which a CPU, with few views at a time, has as many as pixels.
    """
    views, height, width = triangle_ids.shape
    device, pixels = triangle_ids.device, triangle_ids.numel()
    listed = (clip.is_cuda if listed is None else listed) and neighbors is not None and len(neighbors) > 0
    if not listed or not pixels:
        edges = torch.empty((pixels, 2), dtype=torch.int32, device=device)
        inputs = _inputs(clip, triangles, triangle_ids, neighbors)
        bridge.launch_range(_find_edges, pixels, inputs, [bridge.as_warp(edges, wp.int32)], device)
        return Silhouettes(edges, None, None)
    assert neighbors is not None
    found = list_pairs(clip, triangles, neighbors, (views, height, width))
    inputs = [*found.shared(), *_inputs(clip, triangles, triangle_ids, neighbors)]
    bridge.launch(_find_listed_edges, SHARING, inputs, [bridge.as_warp(found.edges, wp.int32)], device)
    return found


def _inputs(
    clip: torch.Tensor, triangles: torch.Tensor, triangle_ids: torch.Tensor, neighbors: torch.Tensor | None
) -> list[Any]:
    """Kernel arguments: clip, triangles, neighbors, triangle_ids, height, width."""
    known = triangles[:0] if neighbors is None else neighbors
    return [
        bridge.as_warp(clip, wp.vec4),
        bridge.as_warp(triangles, wp.vec3i),
        bridge.as_warp(known, wp.vec3i),
        bridge.as_warp(triangle_ids.reshape(-1), wp.int32),
        *triangle_ids.shape[1:],
    ]
