# SPDX-License-Identifier: GPL-3.0-or-later
"""Device functions of split-sum shading: where the specular lobe of a pixel points and how wide it is."""

from typing import no_type_check

import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS
from backend.kernels.taps import Taps, clamped_cell, cube_taps, face_point

wp.set_module_options(MODULE_OPTIONS)

MIN_COS = wp.constant(1e-4)
MIN_WIDTH = wp.constant(1e-3)
WHITE_FSS = wp.constant(1.0 / 21.0)
KNEE = wp.constant(0.0031308)

#: A, B, K = (1 − E)/E, E_avg, S, direction t of the lobe for metal and dielectric, width for metal and dielectric.
Channels = wp.types.vector(length=9, dtype=wp.float32)


@wp.struct
class Lobe:
    """The specular lobe of a pixel, and what the tables say of its BSDF."""

    mu: float  # n·v, clamped
    entry: wp.vec2i  # of the table: the first of the four around the pixel, row and column
    fraction: wp.vec2  # of the way to the next row and column
    slope: wp.vec2  # of the fraction, by roughness and by μ
    channels: Channels
    along: float  # the lobe points along n + along·(mirror − n)
    direction: wp.vec3
    width: float
    level: float  # of the light, not yet clamped
    lower: Taps
    upper: Taps
    blend: float  # weight of the upper level
    slope_a: wp.vec3  # of the direction's place on the cube
    slope_b: wp.vec3


@wp.func
@no_type_check
def is_black(normal: wp.vec3, triangle_ids: wp.array(dtype=wp.int32), p: int) -> bool:
    """Whether pixel p shows nothing."""
    if triangle_ids.shape[0] > 0:
        if triangle_ids[p] < 0:
            return True
    return wp.dot(normal, normal) == 0.0


@wp.func
@no_type_check
def lobe_at(
    roughness: float,
    metallic: float,
    normal: wp.vec3,
    view: wp.vec3,
    levels: wp.array(dtype=wp.vec3i),
    low: float,
    table: wp.array2d(dtype=Channels),
) -> Lobe:
    lobe = Lobe()
    lobe.mu = wp.clamp(wp.dot(normal, view), MIN_COS, 1.0)
    root = wp.sqrt(lobe.mu)
    rows = float(table.shape[0] - 1)
    columns = float(table.shape[1] - 1)
    y = wp.clamp(roughness, 0.0, 1.0) * rows
    x = root * columns
    i = clamped_cell(y, 0, table.shape[0] - 2)
    j = clamped_cell(x, 0, table.shape[1] - 2)
    fy = y - float(i)
    fx = x - float(j)
    lobe.entry = wp.vec2i(i, j)
    lobe.fraction = wp.vec2(fy, fx)
    # no slope on the border, as grid_sample has it
    lobe.slope = wp.vec2(
        wp.where(y > 0.0 and y < rows, rows, 0.0), wp.where(x > 0.0 and x < columns, 0.5 * columns / root, 0.0)
    )
    channels = (1.0 - fy) * ((1.0 - fx) * table[i, j] + fx * table[i, j + 1]) + fy * (
        (1.0 - fx) * table[i + 1, j] + fx * table[i + 1, j + 1]
    )
    lobe.channels = channels
    lobe.along = channels[6] + metallic * (channels[5] - channels[6])
    lobe.width = channels[8] + metallic * (channels[7] - channels[8])
    lobe.direction = (1.0 - lobe.along + 2.0 * lobe.along * lobe.mu) * normal - lobe.along * view
    steps = levels.shape[0] - 2  # from the first to the last level of radiance
    lobe.level = float(steps) * (wp.sqrt(wp.max(lobe.width, MIN_WIDTH)) - low) / (1.0 - low)
    level = wp.clamp(lobe.level, 0.0, float(steps))
    first = clamped_cell(level, 0, steps - 1)
    lobe.blend = level - float(first)
    point = face_point(lobe.direction)
    lobe.lower = cube_taps(point, levels[first])
    lobe.upper = cube_taps(point, levels[first + 1])
    lobe.slope_a = point.slope_a
    lobe.slope_b = point.slope_b
    return lobe


@wp.func
@no_type_check
def read_colors(texels: wp.array(dtype=wp.vec3), taps: Taps, weights: wp.vec4) -> wp.vec3:
    return (
        weights[0] * texels[taps.texel[0]]
        + weights[1] * texels[taps.texel[1]]
        + weights[2] * texels[taps.texel[2]]
        + weights[3] * texels[taps.texel[3]]
    )


@wp.func
@no_type_check
def encode(linear: float) -> float:
    """sRGB of 0..1, as `appearance.color.linear_to_srgb` has it."""
    x = wp.clamp(linear, 0.0, 1.0)
    if x <= KNEE:
        return 12.92 * x
    return 1.055 * wp.pow(x, 1.0 / 2.4) - 0.055


@wp.func
@no_type_check
def encode_slope(linear: float) -> float:
    """Derivative of `encode`, zero beyond 0..1."""
    if linear < 0.0 or linear > 1.0:
        return 0.0
    if linear <= KNEE:
        return 12.92
    return 1.055 / 2.4 * wp.pow(linear, 1.0 / 2.4 - 1.0)


@wp.func
@no_type_check
def scatter(taps: Taps, g: wp.vec3, first: int, stride: int, to_texels: wp.array(dtype=wp.float32)):
    """Send a gradient to four texels; `first` is the first element of the copy, `stride` from one to the next."""
    if g[0] != 0.0 or g[1] != 0.0 or g[2] != 0.0:
        for k in range(4):
            for c in range(3):
                wp.atomic_add(to_texels, first + (3 * taps.texel[k] + c) * stride, taps.weight[k] * g[c])
