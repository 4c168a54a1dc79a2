# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit vertex normals, weighted by area, and their gradient: `geometry.mesh.vertex_normals` in two kernels."""

from __future__ import annotations

from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch, launch_range

wp.set_module_options(MODULE_OPTIONS)


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals [V, 3] float32: the sum of the face normals around each vertex, weighted by area. Differentiable.

    Vertices without any triangle of some area have the normal zero, and send no gradient; triangles that use a vertex
    twice count for nothing.

    Args:
        vertices: [V, 3] float32.
        triangles: [T, 3] int32.
    """
    result: Tensor = _VertexNormals.apply(vertices, triangles)
    return result


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vertices: Tensor, triangles: Tensor) -> Tensor:
        vertices, triangles = vertices.contiguous(), triangles.contiguous()
        device = vertices.device
        sums = torch.zeros_like(vertices)  # [V, 3] twice the areas
        normals = torch.empty_like(vertices)
        totals = as_warp(sums, wp.vec3)
        mesh = [as_warp(vertices, wp.vec3), as_warp(triangles, wp.vec3i)]
        if len(triangles):
            launch(_add_faces, len(triangles), mesh, [totals], device)
        if len(vertices):
            launch_range(_normalize, len(vertices), [totals], [as_warp(normals, wp.vec3)], device)
        ctx.save_for_backward(vertices, triangles, sums)
        return normals

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vertices, triangles, sums = ctx.saved_tensors
        device, gradient = vertices.device, gradient.contiguous()
        grad_sums, grad_vertices = torch.empty_like(sums), torch.zeros_like(vertices)
        if len(vertices) and len(triangles):
            wanted, found = as_warp(gradient, wp.vec3), as_warp(grad_sums, wp.vec3)
            launch_range(_normalize_backward, len(vertices), [as_warp(sums, wp.vec3), wanted], [found], device)
            mesh = [as_warp(vertices, wp.vec3), as_warp(triangles, wp.vec3i)]
            launch(_add_faces_backward, len(triangles), [*mesh, found], [as_warp(grad_vertices, wp.vec3)], device)
        return grad_vertices, None


@wp.kernel
@no_type_check
def _add_faces(
    vertices: wp.array(dtype=wp.vec3),
    triangles: wp.array(dtype=wp.vec3i),
    sums: wp.array(dtype=wp.vec3),
):
    corners = triangles[wp.tid()]
    if corners[0] == corners[1] or corners[1] == corners[2] or corners[2] == corners[0]:
        return
    a = vertices[corners[0]]
    face = wp.cross(vertices[corners[1]] - a, vertices[corners[2]] - a)
    for k in range(3):
        wp.atomic_add(sums, corners[k], face)


@wp.kernel
@no_type_check
def _add_faces_backward(
    vertices: wp.array(dtype=wp.vec3),
    triangles: wp.array(dtype=wp.vec3i),
    grad_sums: wp.array(dtype=wp.vec3),
    grad_vertices: wp.array(dtype=wp.vec3),
):
    corners = triangles[wp.tid()]
    if corners[0] == corners[1] or corners[1] == corners[2] or corners[2] == corners[0]:
        return
    a = vertices[corners[0]]
    ab = vertices[corners[1]] - a
    ac = vertices[corners[2]] - a
    g = grad_sums[corners[0]] + grad_sums[corners[1]] + grad_sums[corners[2]]
    grad_b = wp.cross(ac, g)
    grad_c = wp.cross(g, ab)
    wp.atomic_add(grad_vertices, corners[0], -grad_b - grad_c)
    wp.atomic_add(grad_vertices, corners[1], grad_b)
    wp.atomic_add(grad_vertices, corners[2], grad_c)


@wp.func
@no_type_check
def _scale(v: wp.vec3) -> wp.float32:
    """The largest component: areas of a small mesh are so small that their squares vanish."""
    return wp.max(wp.max(wp.abs(v[0]), wp.abs(v[1])), wp.abs(v[2]))


@wp.kernel
@no_type_check
def _normalize(begin: wp.int32, sums: wp.array(dtype=wp.vec3), normals: wp.array(dtype=wp.vec3)):
    i = begin + wp.tid()
    total = sums[i]
    scale = _scale(total)
    normal = wp.vec3(0.0, 0.0, 0.0)
    if scale > 0.0:
        normal = total / scale
        normal = normal / wp.length(normal)
    normals[i] = normal


@wp.kernel
@no_type_check
def _normalize_backward(
    begin: wp.int32,
    sums: wp.array(dtype=wp.vec3),
    grad_normals: wp.array(dtype=wp.vec3),
    grad_sums: wp.array(dtype=wp.vec3),
):
    i = begin + wp.tid()
    total = sums[i]
    scale = _scale(total)
    result = wp.vec3(0.0, 0.0, 0.0)
    if scale > 0.0:
        total = total / scale
        length = wp.length(total)
        normal = total / length
        g = grad_normals[i]
        result = (g - wp.dot(g, normal) * normal) / length / scale
    grad_sums[i] = result
