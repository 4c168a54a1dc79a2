# SPDX-License-Identifier: GPL-3.0-or-later
"""The two regularisers of a signed distance field on a grid, each one kernel and its adjoint.

Over a million edges and corners, where torch would write out each of a dozen intermediate values.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch

wp.set_module_options(MODULE_OPTIONS)

EPSILON = wp.constant(1e-8)  # under the root, whose slope at zero is infinite


def eikonal(values: Tensor, corners: Tensor, cells: Tensor, cell_count: Tensor, cell_size: float) -> Tensor:
    """Mean of (|∇f| − 1)² over some cells, a scalar, differentiable in the values.

    Args:
        values: [M] float32, f at the vertices.
        corners: [C, 8] int64, vertices of each cell; corner k stands at bits (k & 1, k >> 1 & 1, k >> 2 & 1).
        cells: [N] int64, those that count.
        cell_count: [1] int64, from which number on there are no cells.
        cell_size: in the unit of the values.
    """
    result: Tensor = _Mean.apply(values, (_eikonal, _eikonal_adjoint), corners, cells, cell_count, cell_size)
    return result


def sign_change(values: Tensor, edges: Tensor, edge_count: Tensor, cell_size: float) -> Tensor:
    """Mean over the edges that change sign of the cross-entropy of each end with the other's sign, a scalar.

    Args:
        values: [M] float32.
        edges: [E, 2] int64, their ends.
        edge_count: [1] int64, from which number on there are no edges.
        cell_size: in whose units values are taken for logits.
    """
    result: Tensor = _Mean.apply(values, (_sign_change, _sign_change_adjoint), edges, None, edge_count, cell_size)
    return result


class _Mean(torch.autograd.Function):
    """Mean of what a kernel finds over the items that count: for each of these it writes a term and a one."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        kernels: tuple[Any, Any],
        rows: Tensor,
        chosen: Tensor | None,
        count: Tensor,
        cell_size: float,
    ) -> Tensor:
        device = values.device
        items = len(rows) if chosen is None else len(chosen)
        terms = torch.zeros(2, items, device=device)
        inputs = _inputs(values, rows, chosen, count, cell_size)
        launch(kernels[0], items, inputs, [as_warp(terms, wp.float32)], device)
        total, counted = terms.sum(1).unbind()
        counted = counted.clamp(min=1)
        ctx.save_for_backward(values, rows, chosen, count, counted)
        ctx.rest = kernels[1], cell_size, items
        return total / counted

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, rows, chosen, count, counted = ctx.saved_tensors
        kernel, cell_size, items = ctx.rest
        scale = (gradient / counted).view(1)
        inputs = [*_inputs(values, rows, chosen, count, cell_size), as_warp(scale, wp.float32)]
        slopes = torch.zeros_like(values, memory_format=torch.contiguous_format)
        launch(kernel, items, inputs, [as_warp(slopes, wp.float32)], values.device)
        return slopes, None, None, None, None, None


def _inputs(values: Tensor, rows: Tensor, chosen: Tensor | None, count: Tensor, cell_size: float) -> list[Any]:
    """What all four kernels read."""
    lists = [rows] if chosen is None else [rows, chosen]
    return [as_warp(values, wp.float32), *(as_warp(x, wp.int64) for x in (*lists, count)), 1.0 / cell_size]


@wp.func
@no_type_check
def _slope(
    values: wp.array(dtype=wp.float32), corners: wp.array(dtype=wp.int64, ndim=2), cell: int, inverse_size: float
) -> wp.vec3:
    """Gradient of the trilinear field at the middle of a cell."""
    slope = wp.vec3(0.0)
    for k in range(8):
        slope += values[corners[cell, k]] * _signs(k)
    return 0.25 * inverse_size * slope


@wp.func
@no_type_check
def _signs(k: int) -> wp.vec3:
    """To which side of the middle corner k lies, along each axis."""
    return wp.vec3(
        wp.where((k & 1) != 0, 1.0, -1.0), wp.where((k & 2) != 0, 1.0, -1.0), wp.where((k & 4) != 0, 1.0, -1.0)
    )


@wp.kernel
@no_type_check
def _eikonal(
    values: wp.array(dtype=wp.float32),
    corners: wp.array(dtype=wp.int64, ndim=2),
    cells: wp.array(dtype=wp.int64),
    cell_count: wp.array(dtype=wp.int64),
    inverse_size: float,
    terms: wp.array(dtype=wp.float32, ndim=2),
):
    n = wp.tid()
    cell = wp.int32(cells[n])
    if cell >= wp.int32(cell_count[0]):
        return
    slope = _slope(values, corners, cell, inverse_size)
    excess = wp.sqrt(wp.dot(slope, slope) + EPSILON) - 1.0
    terms[0, n] = excess * excess
    terms[1, n] = 1.0


@wp.kernel
@no_type_check
def _eikonal_adjoint(
    values: wp.array(dtype=wp.float32),
    corners: wp.array(dtype=wp.int64, ndim=2),
    cells: wp.array(dtype=wp.int64),
    cell_count: wp.array(dtype=wp.int64),
    inverse_size: float,
    scale: wp.array(dtype=wp.float32),
    slopes: wp.array(dtype=wp.float32),
):
    cell = wp.int32(cells[wp.tid()])
    if cell >= wp.int32(cell_count[0]):
        return
    slope = _slope(values, corners, cell, inverse_size)
    norm = wp.sqrt(wp.dot(slope, slope) + EPSILON)
    change = (scale[0] * 2.0 * (norm - 1.0) / norm * 0.25 * inverse_size) * slope
    for k in range(8):
        wp.atomic_add(slopes, corners[cell, k], wp.dot(change, _signs(k)))


@wp.func
@no_type_check
def _cross_entropy(logit: float, other: float) -> float:
    """Of the sign of `logit`, taken as a probability, with the sign of `other`."""
    return wp.max(logit, 0.0) - logit * wp.where(other > 0.0, 1.0, 0.0) + wp.log(1.0 + wp.exp(-wp.abs(logit)))


@wp.func
@no_type_check
def _cross_entropy_slope(logit: float, other: float) -> float:
    return 1.0 / (1.0 + wp.exp(-logit)) - wp.where(other > 0.0, 1.0, 0.0)


@wp.kernel
@no_type_check
def _sign_change(
    values: wp.array(dtype=wp.float32),
    edges: wp.array(dtype=wp.int64, ndim=2),
    edge_count: wp.array(dtype=wp.int64),
    inverse_size: float,
    terms: wp.array(dtype=wp.float32, ndim=2),
):
    e = wp.tid()
    if e >= wp.int32(edge_count[0]):
        return
    a = values[edges[e, 0]] * inverse_size
    b = values[edges[e, 1]] * inverse_size
    if (a < 0.0) != (b < 0.0):
        terms[0, e] = _cross_entropy(a, b) + _cross_entropy(b, a)
        terms[1, e] = 1.0


@wp.kernel
@no_type_check
def _sign_change_adjoint(
    values: wp.array(dtype=wp.float32),
    edges: wp.array(dtype=wp.int64, ndim=2),
    edge_count: wp.array(dtype=wp.int64),
    inverse_size: float,
    scale: wp.array(dtype=wp.float32),
    slopes: wp.array(dtype=wp.float32),
):
    e = wp.tid()
    if e >= wp.int32(edge_count[0]):
        return
    a = values[edges[e, 0]] * inverse_size
    b = values[edges[e, 1]] * inverse_size
    if (a < 0.0) != (b < 0.0):
        wp.atomic_add(slopes, edges[e, 0], scale[0] * inverse_size * _cross_entropy_slope(a, b))
        wp.atomic_add(slopes, edges[e, 1], scale[0] * inverse_size * _cross_entropy_slope(b, a))
