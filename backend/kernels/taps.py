# SPDX-License-Identifier: GPL-3.0-or-later
"""Device functions that turn a coordinate into four weighted texels of one level, with the slopes of the weights.

A cube map is filtered across its seams: in our layout (coordinates on a face are world axes) the texel beyond the edge
of face A towards axis B is the texel of face B on the edge towards A with the same index along the edge. Beyond a
corner there is no texel: its weight goes to the three others in equal shares, which is the same from all three faces.
"""

from typing import no_type_check

import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS

wp.set_module_options(MODULE_OPTIONS)


@wp.struct
class Taps:
    """Four texels of one level: rows of the buffer, weights, and the slopes of the weights along x and y of the level's
    grid (columns and rows of texels; zero where the coordinate is clamped)."""

    texel: wp.vec4i
    weight: wp.vec4
    slope_x: wp.vec4
    slope_y: wp.vec4


@wp.struct
class FacePoint:
    """A direction on a cube: face 0…5, coordinates a, b in ±1, and their gradients by the direction."""

    face: int
    a: float
    b: float
    slope_a: wp.vec3
    slope_b: wp.vec3


@wp.func
@no_type_check
def clamped_cell(x: float, lowest: int, highest: int) -> int:
    """floor(x) within [lowest, highest]; a valid cell whatever x is (NaN included)."""
    return wp.clamp(int(wp.floor(x)), lowest, highest)


@wp.func
@no_type_check
def bilinear_weights(fx: float, fy: float) -> wp.vec4:
    return wp.vec4((1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy)


@wp.func
@no_type_check
def texture_taps(uv: wp.vec2, level: wp.vec3i) -> Taps:
    height = level[1]
    width = level[2]
    raw_x = uv[0] * float(width) - 0.5
    raw_y = (1.0 - uv[1]) * float(height) - 0.5
    x = wp.clamp(raw_x, 0.0, float(width - 1))
    y = wp.clamp(raw_y, 0.0, float(height - 1))
    j = clamped_cell(x, 0, wp.max(width - 2, 0))
    i = clamped_cell(y, 0, wp.max(height - 2, 0))
    fx = x - float(j)
    fy = y - float(i)
    right = wp.min(j + 1, width - 1)
    top = level[0] + i * width
    bottom = level[0] + wp.min(i + 1, height - 1) * width
    inside_x = wp.where(x == raw_x, float(width), 0.0)
    inside_y = wp.where(y == raw_y, -float(height), 0.0)
    taps = Taps()
    taps.texel = wp.vec4i(top + j, top + right, bottom + j, bottom + right)
    taps.weight = bilinear_weights(fx, fy)
    taps.slope_x = inside_x * wp.vec4(fy - 1.0, 1.0 - fy, -fy, fy)
    taps.slope_y = inside_y * wp.vec4(fx - 1.0, -fx, 1.0 - fx, fx)
    return taps


@wp.func
@no_type_check
def face_point(direction: wp.vec3) -> FacePoint:
    """Project a direction onto the cube. Ties go to x, then y; zero and NaN land in the middle of +x without slope."""
    size = wp.abs(direction)
    axis = int(0)  # noqa: UP018
    if size[1] > size[axis]:
        axis = 1
    if size[2] > size[axis]:
        axis = 2
    axis_a = wp.where(axis == 0, 1, 0)
    axis_b = wp.where(axis == 2, 1, 2)
    point = FacePoint()
    point.face = 2 * axis
    point.slope_a = wp.vec3(0.0, 0.0, 0.0)
    point.slope_b = wp.vec3(0.0, 0.0, 0.0)
    if size[axis] > 1.0e-30:
        scale = 1.0 / size[axis]
        sign = float(1.0)  # noqa: UP018
        if direction[axis] < 0.0:
            sign = -1.0
            point.face += 1
        point.a = direction[axis_a] * scale
        point.b = direction[axis_b] * scale
        slope_a = wp.vec3(0.0, 0.0, 0.0)
        slope_b = wp.vec3(0.0, 0.0, 0.0)
        slope_a[axis_a] = scale
        slope_a[axis] = -point.a * sign * scale
        slope_b[axis_b] = scale
        slope_b[axis] = -point.b * sign * scale
        point.slope_a = slope_a
        point.slope_b = slope_b
    return point


@wp.func
@no_type_check
def cube_texel(face: int, x: int, y: int, level: wp.vec3i) -> int:
    """Row of the buffer for texel (row y, column x), where one of x and y may lie one step beyond the face."""
    side = level[1]
    axis = face // 2
    own = (1 - face % 2) * (side - 1)  # index, on a neighboring face, of the edge towards this face
    target = face
    row = y
    column = x
    if x < 0 or x >= side:
        # neighbor along a; keeps the index along b
        axis_a = wp.where(axis == 0, 1, 0)
        target = 2 * axis_a + wp.where(x < 0, 1, 0)
        # coordinates of the neighbor are the two other world axes in order: (this axis, b axis) or reverse
        axis_b = wp.where(axis == 2, 1, 2)
        column = wp.where(axis < axis_b, own, y)
        row = wp.where(axis < axis_b, y, own)
    elif y < 0 or y >= side:
        axis_b = wp.where(axis == 2, 1, 2)
        target = 2 * axis_b + wp.where(y < 0, 1, 0)
        axis_a = wp.where(axis == 0, 1, 0)
        column = wp.where(axis < axis_a, own, x)
        row = wp.where(axis < axis_a, x, own)
    return level[0] + (target * side + row) * side + column


@wp.func
@no_type_check
def cube_taps(point: FacePoint, level: wp.vec3i) -> Taps:
    side = level[1]
    half = 0.5 * float(side)
    x = (point.a + 1.0) * half - 0.5
    y = (point.b + 1.0) * half - 0.5
    j = clamped_cell(x, -1, side - 1)
    i = clamped_cell(y, -1, side - 1)
    fx = x - float(j)
    fy = y - float(i)
    taps = Taps()
    taps.weight = bilinear_weights(fx, fy)
    taps.slope_x = half * wp.vec4(fy - 1.0, 1.0 - fy, -fy, fy)
    taps.slope_y = half * wp.vec4(fx - 1.0, -fx, 1.0 - fx, fx)
    missing = int(-1)  # noqa: UP018
    for k in range(4):
        column = j + (k & 1)
        row = i + (k >> 1)
        if (column < 0 or column >= side) and (row < 0 or row >= side):
            missing = k
        else:
            taps.texel[k] = cube_texel(point.face, column, row, level)
    if missing >= 0:
        weight = taps.weight[missing] / 3.0
        slope_x = taps.slope_x[missing] / 3.0
        slope_y = taps.slope_y[missing] / 3.0
        for k in range(4):
            taps.weight[k] = wp.where(k == missing, 0.0, taps.weight[k] + weight)
            taps.slope_x[k] = wp.where(k == missing, 0.0, taps.slope_x[k] + slope_x)
            taps.slope_y[k] = wp.where(k == missing, 0.0, taps.slope_y[k] + slope_y)
        taps.texel[missing] = taps.texel[3 - missing]
    return taps


@wp.func
@no_type_check
def face_taps(point: FacePoint, level: wp.vec3i) -> Taps:
    """Taps on a face and not beyond it; their slopes are left out."""
    side = level[1]
    x = wp.max((0.5 * point.a + 0.5) * float(side) - 0.5, 0.0)
    y = wp.max((0.5 * point.b + 0.5) * float(side) - 0.5, 0.0)
    j = clamped_cell(x, 0, side - 1)
    i = clamped_cell(y, 0, side - 1)
    right = wp.min(j + 1, side - 1)
    upper = level[0] + (point.face * side + i) * side
    lower = level[0] + (point.face * side + wp.min(i + 1, side - 1)) * side
    taps = Taps()
    taps.texel = wp.vec4i(upper + j, upper + right, lower + j, lower + right)
    taps.weight = bilinear_weights(x - float(j), y - float(i))
    return taps


@wp.func
@no_type_check
def read_taps(texels: wp.array(dtype=wp.float32), channels: int, taps: Taps, weights: wp.vec4, channel: int) -> float:
    return (
        weights[0] * texels[taps.texel[0] * channels + channel]
        + weights[1] * texels[taps.texel[1] * channels + channel]
        + weights[2] * texels[taps.texel[2] * channels + channel]
        + weights[3] * texels[taps.texel[3] * channels + channel]
    )


@wp.func
@no_type_check
def level_blend(lod: wp.array(dtype=wp.float32), count: int, sample: int) -> wp.vec2:
    """Lower of the two levels to blend, and the upper one's weight."""
    if count < 2:
        return wp.vec2(0.0, 0.0)
    level = wp.clamp(lod[sample], 0.0, float(count - 1))
    lower = float(clamped_cell(level, 0, count - 2))
    return wp.vec2(lower, level - lower)
