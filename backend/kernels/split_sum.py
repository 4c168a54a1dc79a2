# SPDX-License-Identifier: GPL-3.0-or-later
"""Split-sum shading in one kernel, and its adjoint in another: `appearance.bsdf.split_sum` says what it computes.

The adjoint goes through a pixel again instead of fetching what the forward pass found, except for what hides the light
from its lobe, which takes 24 scattered reads. The equations are those of bsdf.py; a name with `g_` before it is the
gradient of the loss by what it names.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, SPLIT_FROM, as_warp, launch_range
from backend.kernels.lobes import (
    MIN_COS,
    MIN_WIDTH,
    WHITE_FSS,
    Channels,
    encode,
    encode_slope,
    is_black,
    lobe_at,
    read_colors,
    scatter,
)
from backend.kernels.shadows import Shadows, hidden_at, side_of
from backend.kernels.taps import cube_taps, face_point

wp.set_module_options(MODULE_OPTIONS)

#: Copies of the light's gradient that the pixels of a CUDA launch add to in turn: all want the same few texels.
CUDA_COPIES = 32


@dataclass(frozen=True)
class Levels:
    """How a light's texels are laid out: levels of a cube map, end to end.

    All but the last are radiance for lobes of rising width, the roots of their widths evenly spaced from `low` to 1;
    the last is irradiance / π.
    """

    sides: tuple[int, ...]  # of a face, texels
    low: float


def shade_split_sum(
    material: Tensor,
    normal: Tensor,
    view: Tensor,
    texels: Tensor,
    levels: Levels,
    table: Tensor,
    arriving: Tensor | None = None,
    shadows: Shadows | None = None,
    encoded: bool = False,
) -> Tensor:
    """Radiance [P, 3] of pixels, differentiable once in material, normal, view, texels and arriving.

    Waits for nothing, so that it can be recorded in a CUDA graph.

    Args:
        material: [P, 5] float32, base color, roughness, metallic.
        normal: [P, 3] float32, unit. A pixel whose normal is zero or whose triangle is -1 is black, without gradient.
        view: [P, 3] float32, unit, toward the eye.
        texels: [N, 3] float32, the light.
        table: [R, M, 9] float32, `Channels` over roughness and the root of n·v, both evenly from 0 to 1.
        arriving: [P, 3] float32, factor on the irradiance.
        shadows: given where `arriving` is.
        encoded: return the sRGB encoding of radiance clamped to 0..1.
    """
    count = len(material)
    assert material.shape == (count, 5) and normal.shape == view.shape == (count, 3)
    assert all(x.dtype == torch.float32 for x in (material, normal, view, texels, table))
    assert len(texels) == sum(6 * side * side for side in levels.sides) and len(levels.sides) > 2
    assert (arriving is None) == (shadows is None)
    assert arriving is None or arriving.shape == (count, 3) and arriving.dtype == torch.float32
    return _Shade.apply(material, normal, view, texels, arriving, levels, table, shadows, encoded)


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        material: Tensor,
        normal: Tensor,
        view: Tensor,
        texels: Tensor,
        arriving: Tensor | None,
        levels: Levels,
        table: Tensor,
        shadows: Shadows | None,
        encoded: bool,
    ) -> Tensor:
        count, device = len(material), material.device
        hidden = torch.empty(count if shadows is not None else 0, 4, device=device)
        ctx.save_for_backward(material, normal, view, texels, arriving, hidden)
        ctx.constants = levels, table, shadows, encoded
        color = torch.empty(count, 3, device=device)
        if count > 0:
            inputs = [*_inputs(ctx.to_save, *ctx.constants), *_visibility(shadows, device)]
            launch_range(_forward, count, inputs, [as_warp(color, wp.vec3)], device)
        return color

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad.contiguous()
        material, texels = ctx.saved_tensors[0], ctx.saved_tensors[3]
        count, device, cuda = len(material), material.device, material.is_cuda
        wanted = ctx.needs_input_grad[:5]
        # Copies lie side by side on CUDA, where neighboring pixels that want one texel then share a memory transaction;
        # one behind the other on the CPU, where each core has its own.
        copies = CUDA_COPIES if cuda else (torch.get_num_threads() if count >= SPLIT_FROM else 1)
        shape = (texels.numel(), copies) if cuda else (copies, texels.numel())
        to_texels = torch.zeros(shape if wanted[3] else (0, 0), device=device)
        # what is not wanted has no rows, and nothing is written to it
        to_material, to_normal, to_view, to_arriving = (
            torch.empty(count if wanted[k] else 0, width, device=device)
            for k, width in ((0, 5), (1, 3), (2, 3), (4, 3))
        )
        if count > 0:
            run = 1 if cuda else -(-count // copies)  # neighboring pixels that use the same copy
            layout = wp.vec4i(copies, run, *((1, copies) if cuda else (texels.numel(), 1)))
            outputs = [as_warp(to_texels.view(-1), wp.float32), as_warp(to_material, wp.float32)]
            outputs += [as_warp(to_normal, wp.vec3), as_warp(to_view, wp.vec3), as_warp(to_arriving, wp.vec3)]
            inputs = [*_inputs(ctx.saved_tensors, *ctx.constants), as_warp(grad, wp.vec3), layout]
            launch_range(_backward, count if cuda else run * copies, inputs, outputs, device, copies)
        summed = to_texels.sum(1 if cuda else 0).view(-1, 3) if wanted[3] else None
        found = (to_material, to_normal, to_view, summed, to_arriving)
        return *(x if w else None for x, w in zip(found, wanted)), None, None, None, None


def _inputs(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor],
    levels: Levels,
    table: Tensor,
    shadows: Shadows | None,
    encoded: bool,
) -> list[Any]:
    """Kernel arguments that forward and backward share; without shadows the last arrays are empty."""
    material, normal, view, texels, arriving, hidden = tensors
    return [
        int(encoded),
        as_warp(material, wp.float32),
        as_warp(normal, wp.vec3),
        as_warp(view, wp.vec3),
        as_warp(texels, wp.vec3),
        as_warp(_level_table(levels.sides, texels.device), wp.vec3i),
        levels.low,
        as_warp(table, Channels),
        None if arriving is None else as_warp(arriving, wp.vec3),
        None if shadows is None else as_warp(shadows.triangle_ids, wp.int32),
        as_warp(hidden, wp.vec4),
    ]


def _visibility(shadows: Shadows | None, device: torch.device) -> list[Any]:
    """Kernel arguments of the forward pass only."""
    if shadows is None:
        return [None] * 5 + [0]
    return [
        as_warp(shadows.barycentrics, wp.vec2),
        as_warp(shadows.triangles, wp.vec3i),
        as_warp(shadows.visibility, wp.uint8),
        as_warp(_level_table(shadows.sides, device), wp.vec3i),
        as_warp(shadows.glow, wp.vec3),
        side_of(shadows.glow),
    ]


@functools.cache
def _level_table(sides: tuple[int, ...], device: torch.device) -> Tensor:
    """[L, 3] int32: first texel, height, width. Kept, because making it on CUDA waits for a transfer."""
    firsts = itertools.accumulate((6 * side * side for side in sides), initial=0)
    return torch.tensor([(first, side, side) for first, side in zip(firsts, sides)], dtype=torch.int32, device=device)


@wp.kernel
@no_type_check
def _forward(
    begin: int,
    encoded: int,
    material: wp.array2d(dtype=wp.float32),
    normals: wp.array(dtype=wp.vec3),
    views: wp.array(dtype=wp.vec3),
    texels: wp.array(dtype=wp.vec3),
    levels: wp.array(dtype=wp.vec3i),
    low: float,
    table: wp.array2d(dtype=Channels),
    arriving: wp.array(dtype=wp.vec3),
    triangle_ids: wp.array(dtype=wp.int32),
    hidden: wp.array(dtype=wp.vec4),
    barycentrics: wp.array(dtype=wp.vec2),
    triangles: wp.array(dtype=wp.vec3i),
    visibility: wp.array2d(dtype=wp.uint8),
    sides: wp.array(dtype=wp.vec3i),
    glow: wp.array2d(dtype=wp.vec3),
    glow_side: int,
    color: wp.array(dtype=wp.vec3),
):
    p = begin + wp.tid()
    normal = normals[p]
    if is_black(normal, triangle_ids, p):
        color[p] = wp.vec3(0.0, 0.0, 0.0)
        return
    metallic = material[p, 4]
    lobe = lobe_at(material[p, 3], metallic, normal, views[p], levels, low, table)
    around = cube_taps(face_point(normal), levels[levels.shape[0] - 1])
    irradiance = read_colors(texels, around, around.weight)
    radiance = (1.0 - lobe.blend) * read_colors(texels, lobe.lower, lobe.lower.weight)
    radiance += lobe.blend * read_colors(texels, lobe.upper, lobe.upper.weight)
    if arriving.shape[0] > 0:
        near = hidden_at(
            p, lobe.direction, lobe.width, triangle_ids, barycentrics, triangles, visibility, sides, glow, glow_side
        )
        hidden[p] = near
        irradiance = wp.cw_mul(irradiance, arriving[p])
        radiance = wp.lerp(wp.vec3(near[0], near[1], near[2]), radiance, near[3])
    opaque = 1.0 - metallic
    average = lobe.channels[3]
    dielectric = lobe.channels[4]
    result = wp.vec3()
    for c in range(3):
        base = material[p, c]
        fss = base + WHITE_FSS * (1.0 - base)
        factor = 1.0 + fss * average * lobe.channels[2] / (1.0 - fss * (1.0 - average))
        metal = (base * lobe.channels[0] + lobe.channels[1]) * factor
        value = base * irradiance[c] * opaque * (1.0 - dielectric)
        value += (metallic * metal + opaque * dielectric) * radiance[c]
        if encoded == 1:
            value = encode(value)
        result[c] = value
    color[p] = result


@wp.kernel
@no_type_check
def _backward(
    begin: int,
    encoded: int,
    material: wp.array2d(dtype=wp.float32),
    normals: wp.array(dtype=wp.vec3),
    views: wp.array(dtype=wp.vec3),
    texels: wp.array(dtype=wp.vec3),
    levels: wp.array(dtype=wp.vec3i),
    low: float,
    table: wp.array2d(dtype=Channels),
    arriving: wp.array(dtype=wp.vec3),
    triangle_ids: wp.array(dtype=wp.int32),
    hidden: wp.array(dtype=wp.vec4),
    g_color: wp.array(dtype=wp.vec3),
    layout: wp.vec4i,
    to_texels: wp.array(dtype=wp.float32),
    to_material: wp.array2d(dtype=wp.float32),
    to_normals: wp.array(dtype=wp.vec3),
    to_views: wp.array(dtype=wp.vec3),
    to_arriving: wp.array(dtype=wp.vec3),
):
    """Fills those gradients that have rows. `layout`: copies of the light's gradient, neighboring pixels that use the
    same one, steps from one copy to the next and from one element to the next."""
    p = begin + wp.tid()
    if p >= normals.shape[0]:
        return
    normal = normals[p]
    view = views[p]
    g_base = wp.vec3()
    g_roughness = float(0.0)  # noqa: UP018
    g_metallic = float(0.0)  # noqa: UP018
    g_normal, g_view, g_share = wp.vec3(), wp.vec3(), wp.vec3()
    if not is_black(normal, triangle_ids, p):
        metallic = material[p, 4]
        lobe = lobe_at(material[p, 3], metallic, normal, view, levels, low, table)
        point = face_point(normal)
        around = cube_taps(point, levels[levels.shape[0] - 1])
        irradiance = read_colors(texels, around, around.weight)
        at_lower = read_colors(texels, lobe.lower, lobe.lower.weight)
        at_upper = read_colors(texels, lobe.upper, lobe.upper.weight)
        share = wp.vec3(1.0, 1.0, 1.0)
        near = wp.vec4(0.0, 0.0, 0.0, 1.0)
        if arriving.shape[0] > 0:
            share = arriving[p]
            near = hidden[p]
        seen = near[3]
        opaque = 1.0 - metallic
        scale = lobe.channels[0]
        bias = lobe.channels[1]
        missing = lobe.channels[2]
        average = lobe.channels[3]
        dielectric = lobe.channels[4]
        g_channels = Channels()
        g_irradiance = wp.vec3()
        g_radiance = wp.vec3()
        g_opaque = float(0.0)  # noqa: UP018
        for c in range(3):
            base = material[p, c]
            fss = base + WHITE_FSS * (1.0 - base)
            albedo = base * scale + bias
            rest = 1.0 - fss * (1.0 - average)
            factor = 1.0 + fss * average * missing / rest
            radiance = near[c] + seen * ((1.0 - lobe.blend) * at_lower[c] + lobe.blend * at_upper[c] - near[c])
            diffuse = irradiance[c] * share[c] * (1.0 - dielectric)  # of a white dielectric
            specular = metallic * albedo * factor + opaque * dielectric
            g = g_color[p][c]
            if encoded == 1:
                g *= encode_slope(base * diffuse * opaque + specular * radiance)
            g_metal = g * metallic * radiance
            g_factor = g_metal * albedo / (rest * rest)
            g_base[c] = g * diffuse * opaque + g_metal * factor * scale
            g_base[c] += g_factor * average * missing * (1.0 - WHITE_FSS)
            g_metallic += g * albedo * factor * radiance
            g_opaque += g * (base * diffuse + dielectric * radiance)
            g_channels[0] += g_metal * factor * base
            g_channels[1] += g_metal * factor
            g_channels[2] += g_factor * fss * average * rest
            g_channels[3] += g_factor * fss * missing * (1.0 - fss)
            g_channels[4] += g * opaque * (radiance - base * irradiance[c] * share[c])
            white = g * base * opaque * (1.0 - dielectric)
            g_irradiance[c] = white * share[c]
            g_share[c] = white * irradiance[c]
            g_radiance[c] = g * specular * seen
        g_metallic -= g_opaque
        g_lower = (1.0 - lobe.blend) * g_radiance
        g_upper = lobe.blend * g_radiance
        if to_texels.shape[0] > 0:
            first = p / layout[1] % layout[0] * layout[2]
            scatter(around, g_irradiance, first, layout[3], to_texels)
            scatter(lobe.lower, g_lower, first, layout[3], to_texels)
            scatter(lobe.upper, g_upper, first, layout[3], to_texels)

        # the direction and the level of the lobe
        slope_x = wp.dot(g_lower, read_colors(texels, lobe.lower, lobe.lower.slope_x))
        slope_x += wp.dot(g_upper, read_colors(texels, lobe.upper, lobe.upper.slope_x))
        slope_y = wp.dot(g_lower, read_colors(texels, lobe.lower, lobe.lower.slope_y))
        slope_y += wp.dot(g_upper, read_colors(texels, lobe.upper, lobe.upper.slope_y))
        g_direction = slope_x * lobe.slope_a + slope_y * lobe.slope_b
        steps = float(levels.shape[0] - 2)
        g_width = float(0.0)  # noqa: UP018
        if lobe.width >= MIN_WIDTH and lobe.level >= 0.0 and lobe.level <= steps:
            g_width = wp.dot(g_radiance, at_upper - at_lower) * 0.5 * steps / (wp.sqrt(lobe.width) * (1.0 - low))
        g_along = wp.dot(g_direction, (2.0 * lobe.mu - 1.0) * normal - view)
        g_metallic += g_along * (lobe.channels[5] - lobe.channels[6])
        g_metallic += g_width * (lobe.channels[7] - lobe.channels[8])
        g_channels[5] = metallic * g_along
        g_channels[6] = opaque * g_along
        g_channels[7] = metallic * g_width
        g_channels[8] = opaque * g_width

        # roughness and μ, through the table
        i, j = lobe.entry[0], lobe.entry[1]
        fy, fx = lobe.fraction[0], lobe.fraction[1]
        t00 = wp.dot(g_channels, table[i, j])
        t01 = wp.dot(g_channels, table[i, j + 1])
        t10 = wp.dot(g_channels, table[i + 1, j])
        t11 = wp.dot(g_channels, table[i + 1, j + 1])
        g_roughness = lobe.slope[0] * ((1.0 - fx) * (t10 - t00) + fx * (t11 - t01))
        g_mu = lobe.slope[1] * ((1.0 - fy) * (t01 - t00) + fy * (t11 - t10))
        g_mu += 2.0 * lobe.along * wp.dot(g_direction, normal)
        cos = wp.dot(normal, view)
        g_mu = wp.where(cos < MIN_COS or cos > 1.0, 0.0, g_mu)
        g_normal = (1.0 - lobe.along + 2.0 * lobe.along * lobe.mu) * g_direction + g_mu * view
        g_normal += wp.dot(g_irradiance, read_colors(texels, around, around.slope_x)) * point.slope_a
        g_normal += wp.dot(g_irradiance, read_colors(texels, around, around.slope_y)) * point.slope_b
        g_view = g_mu * normal - lobe.along * g_direction

    if to_material.shape[0] > 0:
        for c in range(3):
            to_material[p, c] = g_base[c]
        to_material[p, 3] = g_roughness
        to_material[p, 4] = g_metallic
    if to_normals.shape[0] > 0:
        to_normals[p] = g_normal
    if to_views.shape[0] > 0:
        to_views[p] = g_view
    if to_arriving.shape[0] > 0:
        to_arriving[p] = g_share
