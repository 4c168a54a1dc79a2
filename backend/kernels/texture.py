# SPDX-License-Identifier: GPL-3.0-or-later
"""Mip-mapped texture and cube map sampling: trilinear, with gradients to texels, coordinates and level.

Both samplers reduce a sample to the same thing, up to two levels of four weighted texels, and share the rest.

A cube map is filtered across its seams: in our layout (coordinates on a face are world axes) the texel beyond the edge
of face A towards axis B is the texel of face B on the edge towards A with the same index along the edge. Beyond a
corner there is no texel: its weight goes to the three others in equal shares, which is the same from all three faces.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch
from backend.kernels.pyramid import Pyramid, build_mip_pyramid, cube_mips, make_pyramid, pack

wp.set_module_options(MODULE_OPTIONS)

__all__ = ["Pyramid", "build_mip_pyramid", "cube_mips", "make_pyramid", "pack", "sample_cube", "sample_texture"]


def sample_texture(
    pyramid: Sequence[torch.Tensor] | torch.Tensor | Pyramid, uv: torch.Tensor, lod: torch.Tensor | None = None
) -> torch.Tensor:
    """Sample a texture at uv [P, 2] (v up, origin bottom-left; row 0 of the texture is the top) -> [P, C].

    pyramid: a texture [H, W, C] (its levels are made if lod is given), the levels [h, w, C] finest first, or a Pyramid.
    Coordinates beyond the outer texel centers are clamped and receive no gradient. lod [P] counts levels from the
    finest, is clamped to those there are, and blends two neighbors linearly; None reads the finest level.
    Differentiable once in texels, uv and lod.
    """
    if isinstance(pyramid, torch.Tensor) and lod is not None:
        pyramid = make_pyramid(pyramid)
    packed = _packed(pyramid)
    assert packed.faces == 1 and uv.dim() == 2 and uv.shape[1] == 2
    return _sample(packed, uv, lod)


def sample_cube(
    pyramid: Sequence[torch.Tensor] | torch.Tensor | Pyramid,
    directions: torch.Tensor,
    level: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sample a cube map in world directions [P, 3], of any length -> [P, C]. Zero directions read +x, without gradient.

    pyramid: one cube map [6, R, R, C], the levels (of any resolutions), or a Pyramid. level [P] is an index into them,
    clamped, with linear blends between neighbors; None reads the first. Differentiable once in texels, directions and
    level.
    """
    packed = _packed(pyramid)
    assert packed.faces == 6 and directions.dim() == 2 and directions.shape[1] == 3
    return _sample(packed, directions, level)


def _packed(pyramid: Sequence[torch.Tensor] | torch.Tensor | Pyramid) -> Pyramid:
    if isinstance(pyramid, Pyramid):
        return pyramid
    return pack([pyramid] if isinstance(pyramid, torch.Tensor) else pyramid)


def _sample(pyramid: Pyramid, coordinates: torch.Tensor, lod: torch.Tensor | None) -> torch.Tensor:
    assert coordinates.dtype == torch.float32 and coordinates.device == pyramid.texels.device
    if lod is not None:
        assert lod.shape == coordinates.shape[:1] and lod.dtype == torch.float32
    return _Sample.apply(pyramid.texels, coordinates, lod, pyramid.shapes, pyramid.faces)


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        texels: torch.Tensor,
        coordinates: torch.Tensor,
        lod: torch.Tensor | None,
        shapes: tuple[tuple[int, int], ...],
        faces: int,
    ) -> torch.Tensor:
        texels, coordinates = texels.contiguous(), coordinates.contiguous()
        lod = None if lod is None else lod.contiguous()
        ctx.save_for_backward(texels, coordinates, lod)
        ctx.shapes, ctx.faces = shapes, faces
        samples, channels = coordinates.shape[0], texels.shape[1]
        result = torch.empty(samples, channels, device=texels.device)
        if samples > 0:
            arguments, _hold = _arguments(ctx, texels, coordinates, lod)
            kernel = texture_forward if faces == 1 else cube_forward
            launch(kernel, samples, arguments, [as_warp(result.view(-1), wp.float32)], texels.device)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        texels, coordinates, lod = ctx.saved_tensors
        to_texels, to_coordinates, to_lod = ctx.needs_input_grad[:3]
        grad = grad.contiguous()
        # an array argument must exist even where nothing is written to it
        grad_texels = torch.zeros_like(texels) if to_texels else texels
        grad_coordinates = torch.zeros_like(coordinates) if to_coordinates else coordinates
        grad_lod = torch.zeros_like(lod) if to_lod else coordinates
        if coordinates.shape[0] > 0:
            arguments, _hold = _arguments(ctx, texels, coordinates, lod)
            kernel = texture_backward if ctx.faces == 1 else cube_backward
            launch(
                kernel,
                coordinates.shape[0],
                arguments + [as_warp(grad.view(-1), wp.float32), int(to_texels), int(to_coordinates), int(to_lod)],
                [
                    as_warp(grad_texels.view(-1), wp.float32),
                    as_warp(grad_coordinates, wp.vec2 if ctx.faces == 1 else wp.vec3),
                    as_warp(grad_lod.view(-1), wp.float32),
                ],
                texels.device,
            )
        return (
            grad_texels if to_texels else None,
            grad_coordinates if to_coordinates else None,
            grad_lod if to_lod else None,
            None,
            None,
        )


_level_tables: dict[tuple[tuple[tuple[int, int], ...], int, torch.device], torch.Tensor] = {}


def _level_table(shapes: tuple[tuple[int, int], ...], faces: int, device: torch.device) -> torch.Tensor:
    """[L, 3] int32: first texel, height, width. Kept, because making it on CUDA waits for a transfer."""
    key = (shapes, faces, device)
    if key not in _level_tables:
        rows, first = [], 0
        for height, width in shapes:
            rows.append((first, height, width))
            first += faces * height * width
        _level_tables[key] = torch.tensor(rows, dtype=torch.int32, device=device)
    return _level_tables[key]


def _arguments(
    ctx: Any, texels: torch.Tensor, coordinates: torch.Tensor, lod: torch.Tensor | None
) -> tuple[list[Any], torch.Tensor]:
    """Kernel arguments that forward and backward share, and the level table to keep alive."""
    table = _level_table(ctx.shapes, ctx.faces, texels.device)
    levels = len(ctx.shapes) if lod is not None else 1
    arguments = [
        as_warp(texels.view(-1), wp.float32),
        texels.shape[1],
        as_warp(table, wp.vec3i),
        levels,
        as_warp(coordinates, wp.vec2 if ctx.faces == 1 else wp.vec3),
        as_warp(coordinates.view(-1) if lod is None else lod, wp.float32),
    ]
    return arguments, table


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
def _cell(x: float, lowest: int, highest: int) -> int:
    """floor(x) within [lowest, highest]; a valid cell whatever x is (NaN included)."""
    return wp.clamp(int(wp.floor(x)), lowest, highest)


@wp.func
@no_type_check
def _bilinear(fx: float, fy: float) -> wp.vec4:
    return wp.vec4((1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy)


@wp.func
@no_type_check
def _texture_taps(uv: wp.vec2, level: wp.vec3i) -> Taps:
    height = level[1]
    width = level[2]
    raw_x = uv[0] * float(width) - 0.5
    raw_y = (1.0 - uv[1]) * float(height) - 0.5
    x = wp.clamp(raw_x, 0.0, float(width - 1))
    y = wp.clamp(raw_y, 0.0, float(height - 1))
    j = _cell(x, 0, wp.max(width - 2, 0))
    i = _cell(y, 0, wp.max(height - 2, 0))
    fx = x - float(j)
    fy = y - float(i)
    right = wp.min(j + 1, width - 1)
    top = level[0] + i * width
    bottom = level[0] + wp.min(i + 1, height - 1) * width
    inside_x = wp.where(x == raw_x, float(width), 0.0)
    inside_y = wp.where(y == raw_y, -float(height), 0.0)
    taps = Taps()
    taps.texel = wp.vec4i(top + j, top + right, bottom + j, bottom + right)
    taps.weight = _bilinear(fx, fy)
    taps.slope_x = inside_x * wp.vec4(fy - 1.0, 1.0 - fy, -fy, fy)
    taps.slope_y = inside_y * wp.vec4(fx - 1.0, -fx, 1.0 - fx, fx)
    return taps


@wp.func
@no_type_check
def _face_point(direction: wp.vec3) -> FacePoint:
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
def _cube_texel(face: int, x: int, y: int, level: wp.vec3i) -> int:
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
def _cube_taps(point: FacePoint, level: wp.vec3i) -> Taps:
    side = level[1]
    half = 0.5 * float(side)
    x = (point.a + 1.0) * half - 0.5
    y = (point.b + 1.0) * half - 0.5
    j = _cell(x, -1, side - 1)
    i = _cell(y, -1, side - 1)
    fx = x - float(j)
    fy = y - float(i)
    taps = Taps()
    taps.weight = _bilinear(fx, fy)
    taps.slope_x = half * wp.vec4(fy - 1.0, 1.0 - fy, -fy, fy)
    taps.slope_y = half * wp.vec4(fx - 1.0, -fx, 1.0 - fx, fx)
    missing = int(-1)  # noqa: UP018
    for k in range(4):
        column = j + (k & 1)
        row = i + (k >> 1)
        if (column < 0 or column >= side) and (row < 0 or row >= side):
            missing = k
        else:
            taps.texel[k] = _cube_texel(point.face, column, row, level)
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
def _read(texels: wp.array(dtype=wp.float32), channels: int, taps: Taps, weights: wp.vec4, channel: int) -> float:
    return (
        weights[0] * texels[taps.texel[0] * channels + channel]
        + weights[1] * texels[taps.texel[1] * channels + channel]
        + weights[2] * texels[taps.texel[2] * channels + channel]
        + weights[3] * texels[taps.texel[3] * channels + channel]
    )


@wp.func
@no_type_check
def _level_blend(lod: wp.array(dtype=wp.float32), count: int, sample: int) -> wp.vec2:
    """Lower of the two levels to blend, and the upper one's weight."""
    if count < 2:
        return wp.vec2(0.0, 0.0)
    level = wp.clamp(lod[sample], 0.0, float(count - 1))
    lower = float(_cell(level, 0, count - 2))
    return wp.vec2(lower, level - lower)


@wp.func
@no_type_check
def _write_blend(
    texels: wp.array(dtype=wp.float32),
    channels: int,
    lower: Taps,
    upper: Taps,
    blend: float,
    sample: int,
    result: wp.array(dtype=wp.float32),
):
    for c in range(channels):
        value = float(0.0)  # noqa: UP018
        if blend < 1.0:
            value += (1.0 - blend) * _read(texels, channels, lower, lower.weight, c)
        if blend > 0.0:
            value += blend * _read(texels, channels, upper, upper.weight, c)
        result[sample * channels + c] = value


@wp.func
@no_type_check
def _scatter(
    texels: wp.array(dtype=wp.float32),
    channels: int,
    taps: Taps,
    share: float,
    sample: int,
    grad: wp.array(dtype=wp.float32),
    to_texels: int,
    to_slopes: int,
    grad_texels: wp.array(dtype=wp.float32),
) -> wp.vec3:
    """Send one level's share of the gradient to its texels; return the slopes along x, y of the grid, and the value."""
    slope = wp.vec3(0.0, 0.0, 0.0)
    for c in range(channels):
        g = grad[sample * channels + c]
        if to_texels == 1:
            for k in range(4):
                if taps.weight[k] * share != 0.0:
                    wp.atomic_add(grad_texels, taps.texel[k] * channels + c, taps.weight[k] * share * g)
        if to_slopes == 1:
            slope += g * wp.vec3(
                _read(texels, channels, taps, taps.slope_x, c),
                _read(texels, channels, taps, taps.slope_y, c),
                _read(texels, channels, taps, taps.weight, c),
            )
    return slope


@wp.kernel
@no_type_check
def texture_forward(
    texels: wp.array(dtype=wp.float32),
    channels: int,
    levels: wp.array(dtype=wp.vec3i),
    count: int,
    coordinates: wp.array(dtype=wp.vec2),
    lod: wp.array(dtype=wp.float32),
    result: wp.array(dtype=wp.float32),
):
    sample = wp.tid()
    blend = _level_blend(lod, count, sample)
    first = int(blend[0])
    lower = _texture_taps(coordinates[sample], levels[first])
    upper = lower
    if blend[1] > 0.0:
        upper = _texture_taps(coordinates[sample], levels[first + 1])
    _write_blend(texels, channels, lower, upper, blend[1], sample, result)


@wp.kernel
@no_type_check
def cube_forward(
    texels: wp.array(dtype=wp.float32),
    channels: int,
    levels: wp.array(dtype=wp.vec3i),
    count: int,
    coordinates: wp.array(dtype=wp.vec3),
    lod: wp.array(dtype=wp.float32),
    result: wp.array(dtype=wp.float32),
):
    sample = wp.tid()
    blend = _level_blend(lod, count, sample)
    first = int(blend[0])
    point = _face_point(coordinates[sample])
    lower = _cube_taps(point, levels[first])
    upper = lower
    if blend[1] > 0.0:
        upper = _cube_taps(point, levels[first + 1])
    _write_blend(texels, channels, lower, upper, blend[1], sample, result)


@wp.kernel
@no_type_check
def texture_backward(
    texels: wp.array(dtype=wp.float32),
    channels: int,
    levels: wp.array(dtype=wp.vec3i),
    count: int,
    coordinates: wp.array(dtype=wp.vec2),
    lod: wp.array(dtype=wp.float32),
    grad: wp.array(dtype=wp.float32),
    to_texels: int,
    to_coordinates: int,
    to_lod: int,
    grad_texels: wp.array(dtype=wp.float32),
    grad_coordinates: wp.array(dtype=wp.vec2),
    grad_lod: wp.array(dtype=wp.float32),
):
    sample = wp.tid()
    to_slopes = wp.max(to_coordinates, to_lod)
    blend = _level_blend(lod, count, sample)
    first = int(blend[0])
    lower = _texture_taps(coordinates[sample], levels[first])
    at_lower = _scatter(texels, channels, lower, 1.0 - blend[1], sample, grad, to_texels, to_slopes, grad_texels)
    at_upper = wp.vec3(0.0, 0.0, 0.0)
    if count > 1 and (blend[1] > 0.0 or to_lod == 1):
        upper = _texture_taps(coordinates[sample], levels[first + 1])
        at_upper = _scatter(texels, channels, upper, blend[1], sample, grad, to_texels, to_slopes, grad_texels)
    slope = (1.0 - blend[1]) * at_lower + blend[1] * at_upper
    if to_coordinates == 1:
        grad_coordinates[sample] = wp.vec2(slope[0], slope[1])
    if to_lod == 1 and count > 1 and lod[sample] >= 0.0 and lod[sample] <= float(count - 1):
        grad_lod[sample] = at_upper[2] - at_lower[2]


@wp.kernel
@no_type_check
def cube_backward(
    texels: wp.array(dtype=wp.float32),
    channels: int,
    levels: wp.array(dtype=wp.vec3i),
    count: int,
    coordinates: wp.array(dtype=wp.vec3),
    lod: wp.array(dtype=wp.float32),
    grad: wp.array(dtype=wp.float32),
    to_texels: int,
    to_coordinates: int,
    to_lod: int,
    grad_texels: wp.array(dtype=wp.float32),
    grad_coordinates: wp.array(dtype=wp.vec3),
    grad_lod: wp.array(dtype=wp.float32),
):
    sample = wp.tid()
    to_slopes = wp.max(to_coordinates, to_lod)
    blend = _level_blend(lod, count, sample)
    first = int(blend[0])
    point = _face_point(coordinates[sample])
    lower = _cube_taps(point, levels[first])
    at_lower = _scatter(texels, channels, lower, 1.0 - blend[1], sample, grad, to_texels, to_slopes, grad_texels)
    at_upper = wp.vec3(0.0, 0.0, 0.0)
    if count > 1 and (blend[1] > 0.0 or to_lod == 1):
        upper = _cube_taps(point, levels[first + 1])
        at_upper = _scatter(texels, channels, upper, blend[1], sample, grad, to_texels, to_slopes, grad_texels)
    slope = (1.0 - blend[1]) * at_lower + blend[1] * at_upper
    if to_coordinates == 1:
        grad_coordinates[sample] = slope[0] * point.slope_a + slope[1] * point.slope_b
    if to_lod == 1 and count > 1 and lod[sample] >= 0.0 and lod[sample] <= float(count - 1):
        grad_lod[sample] = at_upper[2] - at_lower[2]
