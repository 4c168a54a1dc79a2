# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stages shade with: `bsdf.split_sum` and its light in one kernel."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..kernels.shadows import Shadows
from ..kernels.split_sum import Levels, shade_split_sum
from .bsdf import lookup_table
from .environment import Prefiltered
from .fragments import Fragments
from .local_light import LocalLight
from .material import MaterialField


def shade(
    material: Tensor, normal: Tensor, view: Tensor, light: Prefiltered | LocalLight, encoded: bool = False
) -> Tensor:
    """Outgoing radiance [P, 3], linear, as `split_sum` has it.

    Differentiable once in material, normal, view and the light. A pixel whose normal is zero, or whose fragment has no
    triangle, is black and passes no gradient.

    Args:
        material: [P, 5] base color, linear, roughness and metallic, all in 0..1.
        normal: [P, 3] unit, on the viewer's side.
        view: [P, 3] unit, from the point to the eye.
        light: prefiltered light, or that light at the P pixels.
        encoded: return `linear_to_srgb` of the radiance clamped to 0..1.
    """
    arriving, shadows = None, None
    environment = light
    if isinstance(light, LocalLight):
        environment = light.environment
        fragments, transport = light.fragments, light.transport
        arriving = light.share
        shadows = Shadows(
            fragments.triangle_ids,
            fragments.barycentrics.detach(),
            fragments.triangles,
            transport.visibility,
            transport.level_sizes,
            light.glow,
        )
    assert isinstance(environment, Prefiltered)
    sides = tuple(height for height, _ in environment.packed.shapes)
    levels = Levels(sides, environment.ladder.roughnesses[0] ** 0.5)
    table = _table(material.device)
    return shade_split_sum(material, normal, view, environment.packed.texels, levels, table, arriving, shadows, encoded)


class FieldPoints(NamedTuple):
    """A material field at the covered pixels of a mesh.

    Attributes:
        color: [P, 3] float32, outgoing radiance as `shade` has it.
        positions: [P, 3] float32, world.
        material: [P, 5] float32.
    """

    color: Tensor
    positions: Tensor
    material: Tensor


def shade_field(
    fragments: Fragments,
    vertices: Tensor,
    normals: Tensor,
    field: MaterialField,
    light: Prefiltered | LocalLight,
    encoded: bool = False,
) -> FieldPoints:
    """Shade the `fragments` of a mesh, with `vertices` and `normals` [V, 3], world, that is of the material `field`."""
    rows = fragments.interpolate(torch.cat((vertices, normals), dim=1))
    positions, normal = rows[:, :3], functional.normalize(rows[:, 3:], dim=-1)
    material = field.values(positions)
    color = shade(material, normal, fragments.directions_to_camera(positions), light, encoded)
    return FieldPoints(color, positions, material)


@functools.cache
def _table(device: torch.device) -> Tensor:
    """[R, M, 9] float32, the tables of bsdf.py with what belongs together side by side."""
    return lookup_table(device)[0].permute(1, 2, 0).contiguous()
