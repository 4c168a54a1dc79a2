# SPDX-License-Identifier: GPL-3.0-or-later
"""Analytic antialiasing of silhouettes (Laine et al. 2020, section 3.5), which makes coverage differentiable.

Where a silhouette edge (`backend.kernels.silhouettes`) crosses the segment between two neighboring pixel centers at the
fraction t, seen from the pixel that owns it, the owner's color covers t - 1/2 of the other pixel, or the other's color
1/2 - t of the owner's. The blended value depends smoothly on the edge's two vertices.
"""

from typing import Any

import torch
import warp as wp

from backend.kernels import bridge
from backend.kernels.screen import add_corner_gradient, cross2, pixel_to_ndc, relative, turn
from backend.kernels.silhouette_list import SHARING, Silhouettes
from backend.kernels.silhouettes import silhouette_edges

wp.set_module_options({**bridge.MODULE_OPTIONS, "fuse_fp": False})


@wp.func
def edge_corners(triangles: wp.array(dtype=wp.vec3i), code: wp.int32) -> wp.vec2i:
    """Vertices of the edge that a code of `silhouette_edges` names."""
    edge = code / 2
    corners = triangles[edge / 3]
    k = edge % 3
    return wp.vec2i(corners[k], corners[(k + 1) % 3])


@wp.func
def owner_and_other(p: wp.int32, axis: wp.int32, code: wp.int32, width: wp.int32) -> wp.vec2i:
    """Of the pair (p, axis), the pixel whose triangle the edge belongs to, and the one beyond the edge."""
    neighbor = p + 1 + axis * (width - 1)
    if code % 2 == 1:
        return wp.vec2i(neighbor, p)
    return wp.vec2i(p, neighbor)


@wp.func
def excess(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    code: wp.int32,
    p: wp.int32,
    axis: wp.int32,
    height: wp.int32,
    width: wp.int32,
) -> wp.float32:
    """t - 1/2 of the pair (p, axis): positive if the owner's color reaches into the other pixel."""
    view = p / (height * width)
    i = (p / width) % height
    j = p % width
    second = code % 2
    first_center = pixel_to_ndc(i + axis * second, j + (1 - axis) * second, height, width)
    other_center = pixel_to_ndc(i + axis * (1 - second), j + (1 - axis) * (1 - second), height, width)
    corners = edge_corners(triangles, code)
    a = clip[view, corners[0]]
    b = clip[view, corners[1]]
    e0 = cross2(relative(a, first_center), relative(b, first_center))
    e1 = cross2(relative(a, other_center), relative(b, other_center))
    return wp.clamp(e0 / (e0 - e1), 0.0, 1.0) - 0.5


@wp.func
def blended(ends: wp.vec2i, d: wp.float32) -> wp.int32:
    """The pixel of a pair (owner, other) that changes: the owner's color reaches into the other, or the other's in."""
    return wp.where(d > 0.0, ends[1], ends[0])


@wp.func
def blend_pixel(
    p: wp.int32,
    only_first: wp.int32,
    image: wp.array2d(dtype=wp.float32),
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    edges: wp.array2d(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    result: wp.array2d(dtype=wp.float32),
):
    """Adds to a pixel what its four pairs blend into it, in one order on every device.

    With a pair `only_first` (2 pixel + axis), only if that is the first of them that does: of several threads that come
    here for the same pixel one does the work.
    """
    i = (p / width) % height
    j = p % width
    chosen = only_first < 0
    for side in range(4):  # right, below, left, above
        axis = side % 2
        first = p
        inside = True
        if side == 2:
            inside = j > 0
            first = p - 1
        if side == 3:
            inside = i > 0
            first = p - width
        if inside:
            code = edges[first, axis]
            if code >= 0:
                ends = owner_and_other(first, axis, code, width)
                d = excess(clip, triangles, code, first, axis, height, width)
                if p == blended(ends, d):
                    if not chosen:
                        if only_first != 2 * first + axis:
                            break
                        chosen = True
                    for c in range(image.shape[1]):
                        result[p, c] = result[p, c] + d * (image[ends[0], c] - image[ends[1], c])


@wp.kernel
def _blend(
    begin: wp.int32,
    image: wp.array2d(dtype=wp.float32),
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    edges: wp.array2d(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    result: wp.array2d(dtype=wp.float32),
):
    """One thread per pixel; `result` is a copy of the image."""
    blend_pixel(begin + wp.tid(), -1, image, clip, triangles, edges, height, width, result)


@wp.kernel
def _blend_listed(
    threads: wp.int32,
    pairs: wp.array(dtype=wp.int32),
    count: wp.array(dtype=wp.int32),
    image: wp.array2d(dtype=wp.float32),
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    edges: wp.array2d(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    result: wp.array2d(dtype=wp.float32),
):
    """The threads share the pairs of the list; `result` is a copy of the image."""
    for k in range(wp.tid(), count[0], threads):
        pair = pairs[k]
        p = pair / 2
        axis = pair % 2
        code = edges[p, axis]
        if code >= 0:
            d = excess(clip, triangles, code, p, axis, height, width)
            target = blended(owner_and_other(p, axis, code, width), d)
            blend_pixel(target, pair, image, clip, triangles, edges, height, width, result)


@wp.func
def blend_pair_backward(
    p: wp.int32,
    axis: wp.int32,
    image: wp.array2d(dtype=wp.float32),
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    edges: wp.array2d(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    grad_result: wp.array2d(dtype=wp.float32),
    grad_image: wp.array2d(dtype=wp.float32),
    grad_clip: wp.array2d(dtype=wp.vec4),
):
    """The adjoint of a pair's part in the sum."""
    code = edges[p, axis]
    if code < 0:
        return
    i = (p / width) % height
    j = p % width
    view = p / (height * width)
    second = code % 2
    ends = owner_and_other(p, axis, code, width)
    owner = ends[0]
    other = ends[1]
    owner_center = pixel_to_ndc(i + axis * second, j + (1 - axis) * second, height, width)
    other_center = pixel_to_ndc(i + axis * (1 - second), j + (1 - axis) * (1 - second), height, width)
    corners = edge_corners(triangles, code)
    a = clip[view, corners[0]]
    b = clip[view, corners[1]]
    a0 = relative(a, owner_center)
    b0 = relative(b, owner_center)
    a1 = relative(a, other_center)
    b1 = relative(b, other_center)
    e0 = cross2(a0, b0)
    e1 = cross2(a1, b1)
    span = e0 - e1
    t = e0 / span
    d = wp.clamp(t, 0.0, 1.0) - 0.5
    target = blended(ends, d)
    grad_d = wp.float32(0.0)
    for c in range(image.shape[1]):
        g = grad_result[target, c]
        if g != 0.0:
            grad_d += g * (image[owner, c] - image[other, c])
            wp.atomic_add(grad_image, owner, c, d * g)
            wp.atomic_add(grad_image, other, c, -d * g)
    if grad_d != 0.0 and t >= 0.0 and t <= 1.0:
        # t = e0 / (e0 - e1)
        g0 = -grad_d * (e1 / span) / span
        g1 = grad_d * (e0 / span) / span
        add_corner_gradient(grad_clip, view, corners[0], owner_center, g0 * turn(b0))
        add_corner_gradient(grad_clip, view, corners[0], other_center, g1 * turn(b1))
        add_corner_gradient(grad_clip, view, corners[1], owner_center, -g0 * turn(a0))
        add_corner_gradient(grad_clip, view, corners[1], other_center, -g1 * turn(a1))


@wp.kernel
def _blend_backward(
    image: wp.array2d(dtype=wp.float32),
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    edges: wp.array2d(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    grad_result: wp.array2d(dtype=wp.float32),
    grad_image: wp.array2d(dtype=wp.float32),
    grad_clip: wp.array2d(dtype=wp.vec4),
):
    """One thread per pixel and its two pairs; grad_image already holds grad_result."""
    p = wp.tid()
    for axis in range(2):
        blend_pair_backward(p, axis, image, clip, triangles, edges, height, width, grad_result, grad_image, grad_clip)


@wp.kernel
def _blend_listed_backward(
    threads: wp.int32,
    pairs: wp.array(dtype=wp.int32),
    count: wp.array(dtype=wp.int32),
    image: wp.array2d(dtype=wp.float32),
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    edges: wp.array2d(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    grad_result: wp.array2d(dtype=wp.float32),
    grad_image: wp.array2d(dtype=wp.float32),
    grad_clip: wp.array2d(dtype=wp.vec4),
):
    """The same, where the threads share the pairs of a list."""
    for k in range(wp.tid(), count[0], threads):
        blend_pair_backward(
            pairs[k] / 2, pairs[k] % 2, image, clip, triangles, edges, height, width, grad_result, grad_image, grad_clip
        )


def build_neighbors(triangles: torch.Tensor) -> torch.Tensor:
    """Which triangle lies across each edge. Waits for the device.

    Args:
        triangles: [T, 3] int32, with shared vertices (split vertices count as borders) and one winding.

    Returns:
        [T, 3] int32: neighbors[t, e] is the triangle across edge (corner e, corner (e+1) % 3) of t, -1 at a border
        and where more than two triangles share the edge.
    """
    count = triangles.shape[0]
    if count == 0:
        return torch.empty((0, 3), dtype=torch.int32, device=triangles.device)
    corners = triangles.long()
    first, second = corners.reshape(-1), corners.roll(-1, dims=1).reshape(-1)
    vertices = torch.maximum(first.max(), second.max()) + 1
    key, order = torch.sort(torch.minimum(first, second) * vertices + torch.maximum(first, second))
    same = key[1:] == key[:-1]  # entry k and k + 1 are one edge
    edge = torch.zeros(1, dtype=torch.bool, device=key.device)
    before, after = torch.cat([edge, same]), torch.cat([same, edge])
    lone_pair = same & ~before[:-1] & ~after[1:]
    neighbors = torch.full((3 * count,), -1, dtype=torch.int32, device=key.device)
    a, b = order[:-1][lone_pair], order[1:][lone_pair]
    neighbors[a] = (b // 3).to(torch.int32)
    neighbors[b] = (a // 3).to(torch.int32)
    return neighbors.view(count, 3)


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, clip, triangles, triangle_ids, neighbors, listed):
        found = silhouette_edges(clip, triangles, triangle_ids, neighbors, listed)
        result = image.clone(memory_format=torch.contiguous_format)
        ctx.save_for_backward(image, clip, triangles, *found)
        if image.numel() > 0:
            output = bridge.as_warp(result.view(-1, image.shape[-1]), wp.float32)
            inputs = _inputs(image, clip, triangles, found.edges)
            if found.pairs is None:
                bridge.launch_range(_blend, len(found.edges), inputs, [output], image.device)
            else:
                bridge.launch(_blend_listed, SHARING, [*found.shared(), *inputs], [output], image.device)
        return result

    @staticmethod
    def backward(ctx, grad_result):
        image, clip, triangles, *parts = ctx.saved_tensors
        found, channels = Silhouettes(*parts), image.shape[-1]
        grad_result = grad_result.contiguous()
        grad_image = grad_result.clone()
        grad_clip = torch.zeros_like(clip, memory_format=torch.contiguous_format)
        if image.numel() > 0:
            inputs = _inputs(image, clip, triangles, found.edges)
            inputs.append(bridge.as_warp(grad_result.view(-1, channels), wp.float32))
            outputs = [bridge.as_warp(grad_image.view(-1, channels), wp.float32), bridge.as_warp(grad_clip, wp.vec4)]
            if found.pairs is None:
                bridge.launch(_blend_backward, len(found.edges), inputs, outputs, image.device)
            else:
                bridge.launch(_blend_listed_backward, SHARING, [*found.shared(), *inputs], outputs, image.device)
        return grad_image, grad_clip, None, None, None, None


def _inputs(image: torch.Tensor, clip: torch.Tensor, triangles: torch.Tensor, edges: torch.Tensor) -> list[Any]:
    """Kernel arguments: image, clip, triangles, edges, height, width."""
    return [
        bridge.as_warp(image.reshape(-1, image.shape[-1]), wp.float32),
        bridge.as_warp(clip, wp.vec4),
        bridge.as_warp(triangles, wp.vec3i),
        bridge.as_warp(edges, wp.int32),
        *image.shape[1:3],
    ]


def antialias(
    image: torch.Tensor,
    clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_ids: torch.Tensor,
    neighbors: torch.Tensor | None = None,
    listed: bool | None = None,
) -> torch.Tensor:
    """Blends colors across silhouettes; differentiable with respect to `image` and `clip` (x, y and w).

    Args:
        image: [B, H, W, C] float32.
        clip: [B, V, 4] float32 clip positions that were rasterized.
        triangles: [T, 3] int32.
        triangle_ids: [B, H, W] int32 from `rasterize`.
        neighbors: [T, 3] int32 from `build_neighbors`. With None each edge counts as a silhouette.
        listed: as for `silhouette_edges`.

    Returns:
        [B, H, W, C] float32, equal to `image` away from silhouettes.
    """
    return _Antialias.apply(image, clip, triangles, triangle_ids, neighbors, listed)
