# SPDX-License-Identifier: GPL-3.0-or-later
"""What hides the light from pixels, looked up in small cubes of directions at the vertices of their triangles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import no_type_check

import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS
from backend.kernels.taps import FacePoint, clamped_cell, face_point, face_taps

wp.set_module_options(MODULE_OPTIONS)


@dataclass(frozen=True)
class Shadows:
    """What the pixels see of the light.

    Attributes:
        triangle_ids: [P] int32, -1 = nothing.
        barycentrics: [P, 2] float32 weights of corners 0 and 1.
        triangles: [T, 3] int32.
        visibility: [V, ΣK] uint8 0..255, visible share per direction of a cube and of its coarser levels.
        sides: of a face of each of these levels, finest first.
        glow: [V, 6·G·G, 3] float32, radiance, per direction of a cube, of what hides the light; constant.
    """

    triangle_ids: Tensor
    barycentrics: Tensor
    triangles: Tensor
    visibility: Tensor
    sides: tuple[int, ...]
    glow: Tensor


def side_of(cubes: Tensor) -> int:
    """Side G of a face of the cubes [V, 6·G·G, …]."""
    return math.isqrt(cubes.shape[1] // 6)


@wp.func
@no_type_check
def hidden_at(
    p: int,
    direction: wp.vec3,
    width: float,
    triangle_ids: wp.array(dtype=wp.int32),
    barycentrics: wp.array(dtype=wp.vec2),
    triangles: wp.array(dtype=wp.vec3i),
    visibility: wp.array2d(dtype=wp.uint8),
    sides: wp.array(dtype=wp.vec3i),
    glow: wp.array2d(dtype=wp.vec3),
    glow_side: int,
) -> wp.vec4:
    """Radiance of what hides the light from a lobe, and the share of the lobe that still sees the light."""
    point = face_point(direction)
    corners = triangles[triangle_ids[p]]
    b = barycentrics[p]
    weights = wp.vec3(b[0], b[1], 1.0 - b[0] - b[1])
    share = visible_share(point, width, corners, weights, visibility, sides)
    near = glow_at(point, corners, weights, glow, glow_side)
    return wp.vec4(near[0], near[1], near[2], share)


@wp.func
@no_type_check
def visible_share(
    point: FacePoint,
    width: float,
    corners: wp.vec3i,
    weights: wp.vec3,
    visibility: wp.array2d(dtype=wp.uint8),
    sides: wp.array(dtype=wp.vec3i),
) -> float:
    """Visible share of a lobe, as `Transport.specular_visibility` has it."""
    # A GGX lobe spans about 2·atan(α) around its axis, a texel of the cube about 90° / side.
    texels = wp.max(4.0 / wp.pi * wp.atan(width * width) * float(sides[0][1]), 1.0)
    taps = face_taps(point, sides[clamped_cell(wp.rint(wp.log2(texels)), 0, sides.shape[0] - 1)])
    share = float(0.0)  # noqa: UP018
    for k in range(3):
        for t in range(4):
            share += weights[k] * taps.weight[t] * float(visibility[corners[k], taps.texel[t]])
    return share / 255.0


@wp.func
@no_type_check
def glow_at(
    point: FacePoint,
    corners: wp.vec3i,
    weights: wp.vec3,
    glow: wp.array2d(dtype=wp.vec3),
    side: int,
) -> wp.vec3:
    """Radiance of what hides the light in a direction, as `LocalLight.radiance` has it."""
    taps = face_taps(point, wp.vec3i(0, side, side))
    radiance = wp.vec3()
    for k in range(3):
        for t in range(4):
            radiance += weights[k] * taps.weight[t] * glow[corners[k], taps.texel[t]]
    return radiance
