# SPDX-License-Identifier: GPL-3.0-or-later
"""Perspective-correct weights of a triangle's corners at pixel centers, with their derivatives and exact adjoint.

With the edge functions e_k of backend.kernels.rasterize, b_k = e_k / (e_0 + e_1 + e_2).
"""

import torch
import warp as wp

from backend.kernels import bridge
from backend.kernels.lanes import active_lanes, find_run
from backend.kernels.screen import add_corner_gradient_of_run, cross2, pixel_to_ndc, relative, turn

wp.set_module_options({**bridge.MODULE_OPTIONS, "fuse_fp": False})


@wp.kernel
def _barycentrics(
    begin: wp.int32,
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    triangle_ids: wp.array(dtype=wp.int32),
    pixels: wp.array(dtype=wp.int32),
    dense: wp.bool,
    height: wp.int32,
    width: wp.int32,
    weights: wp.array(dtype=wp.vec2),
    derivatives: wp.array(dtype=wp.vec4),
):
    """One thread per entry of triangle_ids; its pixel is its own number (dense) or pixels[number]."""
    p = begin + wp.tid()
    t = triangle_ids[p]
    b = wp.vec2(0.0, 0.0)
    d = wp.vec4(0.0, 0.0, 0.0, 0.0)
    if t >= 0:
        flat = p
        if not dense:
            flat = pixels[p]
        view = flat / (height * width)
        corners = triangles[t]
        v0 = clip[view, corners[0]]
        v1 = clip[view, corners[1]]
        v2 = clip[view, corners[2]]
        pixel = pixel_to_ndc((flat / width) % height, flat % width, height, width)
        q0 = relative(v0, pixel)
        q1 = relative(v1, pixel)
        q2 = relative(v2, pixel)
        e = wp.vec3(cross2(q1, q2), cross2(q2, q0), cross2(q0, q1))
        total = e[0] + e[1] + e[2]
        if total != 0.0:
            b = wp.vec2(e[0] / total, e[1] / total)
            if derivatives.shape[0] > 0:
                # de/dx and de/dy per pixel; y runs down the image, hence the sign
                sx = 2.0 / float(width)
                sy = -2.0 / float(height)
                ex = sx * wp.vec3(
                    q1[1] * v2[3] - v1[3] * q2[1], q2[1] * v0[3] - v2[3] * q0[1], q0[1] * v1[3] - v0[3] * q1[1]
                )
                ey = sy * wp.vec3(
                    v1[3] * q2[0] - q1[0] * v2[3], v2[3] * q0[0] - q2[0] * v0[3], v0[3] * q1[0] - q0[0] * v1[3]
                )
                tx = ex[0] + ex[1] + ex[2]
                ty = ey[0] + ey[1] + ey[2]
                d = wp.vec4(ex[0] - b[0] * tx, ey[0] - b[0] * ty, ex[1] - b[1] * tx, ey[1] - b[1] * ty) / total
    weights[p] = b
    if derivatives.shape[0] > 0:
        derivatives[p] = d


@wp.kernel
def _barycentrics_backward(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    triangle_ids: wp.array(dtype=wp.int32),
    pixels: wp.array(dtype=wp.int32),
    dense: wp.bool,
    height: wp.int32,
    width: wp.int32,
    grad_weights: wp.array(dtype=wp.vec2),
    grad_clip: wp.array2d(dtype=wp.float32),
):
    """As above; grad_clip has the vertices of all views one below the other."""
    lanes = active_lanes()
    p = wp.tid()
    t = triangle_ids[p]
    flat = p
    if not dense:
        flat = pixels[p]
    view = flat / (height * width)
    key = wp.int32(-1)
    rows = wp.vec3i(0, 0, 0)
    pixel = wp.vec2(0.0, 0.0)
    to_q0 = wp.vec2(0.0, 0.0)
    to_q1 = wp.vec2(0.0, 0.0)
    to_q2 = wp.vec2(0.0, 0.0)
    if t >= 0:
        g = grad_weights[p]
        corners = triangles[t]
        key = view * triangles.shape[0] + t
        rows = view * clip.shape[1] * wp.vec3i(1, 1, 1) + corners
        pixel = pixel_to_ndc((flat / width) % height, flat % width, height, width)
        q0 = relative(clip[view, corners[0]], pixel)
        q1 = relative(clip[view, corners[1]], pixel)
        q2 = relative(clip[view, corners[2]], pixel)
        e0 = cross2(q1, q2)
        e1 = cross2(q2, q0)
        e2 = cross2(q0, q1)
        total = e0 + e1 + e2
        if total != 0.0 and (g[0] != 0.0 or g[1] != 0.0):
            # b_k = e_k / total, so dL/de_k = (g_k - sum_m g_m b_m) / total with g_2 = 0
            mean = (g[0] * e0 + g[1] * e1) / total
            g0 = (g[0] - mean) / total
            g1 = (g[1] - mean) / total
            g2 = -mean / total
            to_q0 = turn(q1) * g2 - turn(q2) * g1
            to_q1 = turn(q2) * g0 - turn(q0) * g2
            to_q2 = turn(q0) * g1 - turn(q1) * g0
    run = find_run(lanes, key)
    add_corner_gradient_of_run(grad_clip, rows[0], pixel, to_q0, lanes, run)
    add_corner_gradient_of_run(grad_clip, rows[1], pixel, to_q1, lanes, run)
    add_corner_gradient_of_run(grad_clip, rows[2], pixel, to_q2, lanes, run)


class _Barycentrics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, clip, triangles, triangle_ids, pixels, resolution, with_derivatives):
        height, width = resolution
        ctx.resolution = resolution
        ctx.save_for_backward(clip, triangles, triangle_ids, pixels)
        weights = torch.empty((*triangle_ids.shape, 2), dtype=torch.float32, device=clip.device)
        size = triangle_ids.numel() if with_derivatives else 0
        derivatives = torch.empty((size, 4), dtype=torch.float32, device=clip.device)
        if triangle_ids.numel() > 0:
            inputs = _barycentric_inputs(clip, triangles, triangle_ids, pixels, resolution)
            outputs = [bridge.as_warp(weights.view(-1, 2), wp.vec2), bridge.as_warp(derivatives, wp.vec4)]
            bridge.launch_range(_barycentrics, triangle_ids.numel(), inputs, outputs, clip.device)
        ctx.mark_non_differentiable(derivatives)
        return weights, derivatives

    @staticmethod
    def backward(ctx, grad_weights, _):
        clip, triangles, triangle_ids, pixels = ctx.saved_tensors
        grad_clip = torch.zeros_like(clip, memory_format=torch.contiguous_format)
        if triangle_ids.numel() > 0:
            inputs = _barycentric_inputs(clip, triangles, triangle_ids, pixels, ctx.resolution)
            outputs = [
                bridge.as_warp(grad_weights.reshape(-1, 2), wp.vec2),
                bridge.as_warp(grad_clip.view(-1, 4), wp.float32),
            ]
            bridge.launch(_barycentrics_backward, triangle_ids.numel(), inputs, outputs, clip.device)
        return grad_clip, None, None, None, None, None


def _barycentric_inputs(
    clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_ids: torch.Tensor,
    pixels: torch.Tensor | None,
    resolution: tuple[int, int],
) -> list[object]:
    listed = triangle_ids if pixels is None else pixels  # a dense image numbers its pixels itself
    return [
        bridge.as_warp(clip, wp.vec4),
        bridge.as_warp(triangles, wp.vec3i),
        bridge.as_warp(triangle_ids.reshape(-1), wp.int32),
        bridge.as_warp(listed.reshape(-1), wp.int32),
        pixels is None,
        *resolution,
    ]


def barycentrics(clip: torch.Tensor, triangles: torch.Tensor, triangle_ids: torch.Tensor) -> torch.Tensor:
    """Perspective-correct weights of corners 0 and 1 at each pixel center, differentiable with respect to `clip`.

    Args:
        clip: [B, V, 4] float32 clip positions.
        triangles: [T, 3] int32.
        triangle_ids: [B, H, W] int32 from `rasterize`.

    Returns:
        [B, H, W, 2] float32; zero where nothing is seen. Corner 2 has weight 1 - b0 - b1.
    """
    resolution = (triangle_ids.shape[1], triangle_ids.shape[2])
    return _Barycentrics.apply(clip, triangles, triangle_ids, None, resolution, False)[0]


def barycentrics_at(
    clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_ids: torch.Tensor,
    pixels: torch.Tensor,
    resolution: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """`barycentrics` for a list of pixels, with their screen-space derivatives.

    Args:
        clip: [B, V, 4] float32 clip positions.
        triangles: [T, 3] int32.
        triangle_ids: [P] int32, -1 gives zeros.
        pixels: [P] int32 or int64 flat indices b*H*W + i*W + j (below 2**31).
        resolution: (H, W).

    Returns:
        weights [P, 2], and derivatives [P, 4] without gradient: (db0/dx, db0/dy, db1/dx, db1/dy) per pixel, x to the
        right, y down the image.
    """
    return _Barycentrics.apply(clip, triangles, triangle_ids, pixels.to(torch.int32), resolution, True)
