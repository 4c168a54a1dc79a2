# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rasterisation kernels share: pixel centers, corners relative to them, and the adjoint of both.

For a pixel p in normalized device coordinates and a corner (x, y, z, w), q = (x - p_x w, y - p_y w) is zero where the
corner projects onto the pixel. The cross product of two corners' q is the edge function of the edge between them.
"""

import warp as wp

from backend.kernels.lanes import add_run


@wp.func
def pixel_to_ndc(i: wp.int32, j: wp.int32, height: wp.int32, width: wp.int32) -> wp.vec2:
    """Pixel center (row i from the top, column j) in normalized device coordinates (y up)."""
    return wp.vec2(float(2 * j + 1) / float(width) - 1.0, 1.0 - float(2 * i + 1) / float(height))


@wp.func
def relative(corner: wp.vec4, pixel: wp.vec2) -> wp.vec2:
    """Corner relative to the pixel, scaled by w: zero where the corner projects onto the pixel."""
    return wp.vec2(corner[0] - pixel[0] * corner[3], corner[1] - pixel[1] * corner[3])


@wp.func
def cross2(a: wp.vec2, b: wp.vec2) -> wp.float32:
    return a[0] * b[1] - a[1] * b[0]


@wp.func
def clip_gradient(pixel: wp.vec2, g: wp.vec2) -> wp.vec4:
    """Gradient of the clip position for the gradient g of relative(corner, pixel)."""
    return wp.vec4(g[0], g[1], 0.0, -pixel[0] * g[0] - pixel[1] * g[1])


@wp.func
def add_corner_gradient(grad: wp.array2d(dtype=wp.vec4), view: wp.int32, corner: wp.int32, pixel: wp.vec2, g: wp.vec2):
    """Passes the gradient g of relative(corner, pixel) on to the clip position."""
    wp.atomic_add(grad, view, corner, clip_gradient(pixel, g))


@wp.func
def add_corner_gradient_of_run(
    grad: wp.array2d(dtype=wp.float32),
    row: wp.int32,
    pixel: wp.vec2,
    g: wp.vec2,
    lanes: wp.int32,
    run: wp.int32,
):
    """`add_corner_gradient` for lanes that name the same corner; grad has four columns."""
    to_clip = clip_gradient(pixel, g)
    add_run(grad, row, 0, to_clip[0], lanes, run)
    add_run(grad, row, 1, to_clip[1], lanes, run)
    add_run(grad, row, 3, to_clip[3], lanes, run)


@wp.func
def turn(a: wp.vec2) -> wp.vec2:
    """(y, -x): d cross2(q, a) / dq; its negative is d cross2(a, q) / dq."""
    return wp.vec2(a[1], -a[0])
