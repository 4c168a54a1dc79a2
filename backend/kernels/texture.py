# SPDX-License-Identifier: GPL-3.0-or-later
"""Mip-mapped texture and cube map sampling: trilinear, with gradients to texels, coordinates and level.

Both samplers reduce a sample to the same thing, up to two levels of four weighted texels (taps.py), and share the rest.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch
from backend.kernels.pyramid import Pyramid, build_mip_pyramid, cube_mips, make_pyramid, pack
from backend.kernels.taps import Taps, cube_taps, face_point, level_blend, read_taps, texture_taps

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
            value += (1.0 - blend) * read_taps(texels, channels, lower, lower.weight, c)
        if blend > 0.0:
            value += blend * read_taps(texels, channels, upper, upper.weight, c)
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
                read_taps(texels, channels, taps, taps.slope_x, c),
                read_taps(texels, channels, taps, taps.slope_y, c),
                read_taps(texels, channels, taps, taps.weight, c),
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
    blend = level_blend(lod, count, sample)
    first = int(blend[0])
    lower = texture_taps(coordinates[sample], levels[first])
    upper = lower
    if blend[1] > 0.0:
        upper = texture_taps(coordinates[sample], levels[first + 1])
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
    blend = level_blend(lod, count, sample)
    first = int(blend[0])
    point = face_point(coordinates[sample])
    lower = cube_taps(point, levels[first])
    upper = lower
    if blend[1] > 0.0:
        upper = cube_taps(point, levels[first + 1])
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
    blend = level_blend(lod, count, sample)
    first = int(blend[0])
    lower = texture_taps(coordinates[sample], levels[first])
    at_lower = _scatter(texels, channels, lower, 1.0 - blend[1], sample, grad, to_texels, to_slopes, grad_texels)
    at_upper = wp.vec3(0.0, 0.0, 0.0)
    if count > 1 and (blend[1] > 0.0 or to_lod == 1):
        upper = texture_taps(coordinates[sample], levels[first + 1])
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
    blend = level_blend(lod, count, sample)
    first = int(blend[0])
    point = face_point(coordinates[sample])
    lower = cube_taps(point, levels[first])
    at_lower = _scatter(texels, channels, lower, 1.0 - blend[1], sample, grad, to_texels, to_slopes, grad_texels)
    at_upper = wp.vec3(0.0, 0.0, 0.0)
    if count > 1 and (blend[1] > 0.0 or to_lod == 1):
        upper = cube_taps(point, levels[first + 1])
        at_upper = _scatter(texels, channels, upper, blend[1], sample, grad, to_texels, to_slopes, grad_texels)
    slope = (1.0 - blend[1]) * at_lower + blend[1] * at_upper
    if to_coordinates == 1:
        grad_coordinates[sample] = slope[0] * point.slope_a + slope[1] * point.slope_b
    if to_lod == 1 and count > 1 and lod[sample] >= 0.0 and lod[sample] <= float(count - 1):
        grad_lod[sample] = at_upper[2] - at_lower[2]
