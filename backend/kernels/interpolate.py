# SPDX-License-Identifier: GPL-3.0-or-later
"""Vertex attributes at pixels: a0 b0 + a1 b1 + a2 (1 - b0 - b1), with the exact adjoint."""

import torch
import warp as wp

from backend.kernels import bridge
from backend.kernels.lanes import active_lanes, add_run, find_run

wp.set_module_options(bridge.MODULE_OPTIONS)


@wp.kernel
def _interpolate(
    begin: wp.int32,
    attributes: wp.array2d(dtype=wp.float32),
    triangles: wp.array(dtype=wp.vec3i),
    triangle_ids: wp.array(dtype=wp.int32),
    weights: wp.array(dtype=wp.vec2),
    pixels_per_view: wp.int32,
    rows_per_view: wp.int32,
    values: wp.array2d(dtype=wp.float32),
):
    """One thread per pixel. Attributes of all views lie one below the other, `rows_per_view` rows each (0: shared)."""
    p = begin + wp.tid()
    t = triangle_ids[p]
    channels = values.shape[1]
    if t < 0:
        for c in range(channels):
            values[p, c] = wp.float32(0.0)
        return
    corners = triangles[t]
    first = (p / pixels_per_view) * rows_per_view
    b = weights[p]
    b2 = 1.0 - b[0] - b[1]
    for c in range(channels):
        values[p, c] = (
            b[0] * attributes[first + corners[0], c]
            + b[1] * attributes[first + corners[1], c]
            + b2 * attributes[first + corners[2], c]
        )


@wp.kernel
def _interpolate_backward(
    attributes: wp.array2d(dtype=wp.float32),
    triangles: wp.array(dtype=wp.vec3i),
    triangle_ids: wp.array(dtype=wp.int32),
    weights: wp.array(dtype=wp.vec2),
    pixels_per_view: wp.int32,
    rows_per_view: wp.int32,
    grad_values: wp.array2d(dtype=wp.float32),
    grad_attributes: wp.array2d(dtype=wp.float32),
    grad_weights: wp.array(dtype=wp.vec2),
):
    """Fills whichever of the two gradients has rows."""
    lanes = active_lanes()
    p = wp.tid()
    t = triangle_ids[p]
    channels = grad_values.shape[1]
    key = wp.int32(-1)
    rows = wp.vec3i(0, 0, 0)
    b = wp.vec3(0.0, 0.0, 0.0)
    if t >= 0:
        view = p / pixels_per_view
        key = view * triangles.shape[0] + t
        rows = view * rows_per_view * wp.vec3i(1, 1, 1) + triangles[t]
        b = wp.vec3(weights[p][0], weights[p][1], 1.0 - weights[p][0] - weights[p][1])
    if grad_attributes.shape[0] > 0:
        run = find_run(lanes, key)
        for c in range(channels):
            g = wp.float32(0.0)
            if t >= 0:
                g = grad_values[p, c]
            add_run(grad_attributes, rows[0], c, b[0] * g, lanes, run)
            add_run(grad_attributes, rows[1], c, b[1] * g, lanes, run)
            add_run(grad_attributes, rows[2], c, b[2] * g, lanes, run)
    if grad_weights.shape[0] > 0:
        g0 = wp.float32(0.0)
        g1 = wp.float32(0.0)
        if t >= 0:
            for c in range(channels):
                g = grad_values[p, c]
                a2 = attributes[rows[2], c]
                g0 += g * (attributes[rows[0], c] - a2)
                g1 += g * (attributes[rows[1], c] - a2)
        grad_weights[p] = wp.vec2(g0, g1)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attributes, triangles, triangle_ids, weights):
        ctx.save_for_backward(attributes, triangles, triangle_ids, weights)
        channels = attributes.shape[-1]
        values = torch.empty((*triangle_ids.shape, channels), dtype=torch.float32, device=attributes.device)
        if values.numel() > 0:
            inputs = _inputs(attributes, triangles, triangle_ids, weights)
            outputs = [bridge.as_warp(values.view(-1, channels), wp.float32)]
            bridge.launch_range(_interpolate, triangle_ids.numel(), inputs, outputs, values.device)
        return values

    @staticmethod
    def backward(ctx, grad_values):
        attributes, triangles, triangle_ids, weights = ctx.saved_tensors
        channels, device = attributes.shape[-1], attributes.device
        contiguous = torch.contiguous_format
        grad_attributes = torch.zeros_like(attributes, memory_format=contiguous) if ctx.needs_input_grad[0] else None
        grad_weights = torch.zeros_like(weights, memory_format=contiguous) if ctx.needs_input_grad[3] else None
        if grad_values.numel() > 0:
            none = torch.empty(0, dtype=torch.float32, device=device)
            outputs = [
                bridge.as_warp(grad_values.reshape(-1, channels), wp.float32),
                bridge.as_warp((none if grad_attributes is None else grad_attributes).view(-1, channels), wp.float32),
                bridge.as_warp((none if grad_weights is None else grad_weights).view(-1, 2), wp.vec2),
            ]
            inputs = _inputs(attributes, triangles, triangle_ids, weights)
            bridge.launch(_interpolate_backward, triangle_ids.numel(), inputs, outputs, device)
        return grad_attributes, None, None, grad_weights


def _inputs(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_ids: torch.Tensor, weights: torch.Tensor
) -> list[object]:
    per_view = attributes.ndim == 3
    return [
        bridge.as_warp(attributes.reshape(-1, attributes.shape[-1]), wp.float32),
        bridge.as_warp(triangles, wp.vec3i),
        bridge.as_warp(triangle_ids.reshape(-1), wp.int32),
        bridge.as_warp(weights.reshape(-1, 2), wp.vec2),
        triangle_ids.numel() // attributes.shape[0] if per_view else triangle_ids.numel(),
        attributes.shape[1] if per_view else 0,
    ]


def interpolate(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_ids: torch.Tensor, barycentrics: torch.Tensor
) -> torch.Tensor:
    """Attributes at pixels, differentiable with respect to `attributes` and `barycentrics`.

    Args:
        attributes: [V, C] float32 for all views, or [B, V, C] with triangle_ids [B, H, W].
        triangles: [T, 3] int32.
        triangle_ids: [...] int32 of any shape (an image or a list of pixels), -1 = nothing.
        barycentrics: [..., 2] float32 weights of corners 0 and 1.

    Returns:
        [..., C] float32, zero where triangle_ids is negative.
    """
    assert attributes.ndim == 2 or attributes.shape[0] == triangle_ids.shape[0]
    return _Interpolate.apply(attributes, triangles, triangle_ids, barycentrics)
