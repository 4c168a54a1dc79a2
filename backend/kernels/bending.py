# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a mesh bends from vertex to vertex: the regulariser of the stages that move its surface."""

from __future__ import annotations

from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch

wp.set_module_options(MODULE_OPTIONS)


def bending(normals: Tensor, triangles: Tensor) -> Tensor:
    """Mean of 1 − n·n over the edges of the triangles [T, 3] int32, for unit vertex `normals` [V, 3].

    A scalar, differentiable in the normals. Triangles whose first corners are one vertex, which fill up lists of fixed
    length, do not count.
    """
    result: Tensor = _Bending.apply(normals, triangles)
    return result


class _Bending(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, normals: Tensor, triangles: Tensor) -> Tensor:
        bends = torch.empty(len(triangles), device=normals.device)
        inputs = [as_warp(normals, wp.vec3), as_warp(triangles, wp.vec3i)]
        launch(_bend, len(triangles), inputs, [as_warp(bends, wp.float32)], normals.device)
        share = 1.0 / (3.0 * (triangles[:, 0] != triangles[:, 1]).sum()).clamp(min=1.0)  # of one edge in the mean
        ctx.save_for_backward(normals, triangles, share)
        return bends.sum() * share

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        normals, triangles, share = ctx.saved_tensors
        slopes, scale = torch.zeros_like(normals, memory_format=torch.contiguous_format), (gradient * share).view(1)
        inputs = [as_warp(normals, wp.vec3), as_warp(triangles, wp.vec3i), as_warp(scale, wp.float32)]
        launch(_bend_adjoint, len(triangles), inputs, [as_warp(slopes, wp.vec3)], normals.device)
        return slopes, None


@wp.kernel
@no_type_check
def _bend(normals: wp.array(dtype=wp.vec3), triangles: wp.array(dtype=wp.vec3i), bends: wp.array(dtype=wp.float32)):
    t = wp.tid()
    corners = triangles[t]
    total = wp.float32(0.0)
    if corners[0] != corners[1]:
        a = normals[corners[0]]
        b = normals[corners[1]]
        c = normals[corners[2]]
        total = 3.0 - wp.dot(a, b) - wp.dot(b, c) - wp.dot(c, a)
    bends[t] = total


@wp.kernel
@no_type_check
def _bend_adjoint(
    normals: wp.array(dtype=wp.vec3),
    triangles: wp.array(dtype=wp.vec3i),
    scale: wp.array(dtype=wp.float32),
    slopes: wp.array(dtype=wp.vec3),
):
    corners = triangles[wp.tid()]
    if corners[0] == corners[1]:
        return  # no atomics of nothing on one address
    a = normals[corners[0]]
    b = normals[corners[1]]
    c = normals[corners[2]]
    wp.atomic_add(slopes, corners[0], -scale[0] * (b + c))
    wp.atomic_add(slopes, corners[1], -scale[0] * (c + a))
    wp.atomic_add(slopes, corners[2], -scale[0] * (a + b))
