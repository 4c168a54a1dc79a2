# SPDX-License-Identifier: GPL-3.0-or-later
"""What is assumed of materials where the photographs do not tell: the same as next to it and where the color is the
same, and no metal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..appearance.fragments import Fragments
from ..appearance.material import Material, MaterialField, decode_material
from .settings import Settings
from .views import Draws

LIKE_COLOR = 0.1  # distance of two base colors, linear, at which their likeness has fallen to 1/e


@dataclass(frozen=True)
class MaterialPrior:
    """Penalty on a material field.

    Highlights tell of roughness only where some camera saw them. Two points of one base color are mostly one material,
    wherever they lie, so that what a highlight tells of one holds for the other.

    Attributes:
        smoothness: weight of the mean difference between a point and a random one nearby.
        similarity: weight of the mean difference in roughness and metallic between two random points, each pair
            counted by the likeness of its base colors.
        dielectric: weight of the mean metallic.
        reach: standard deviation of the distance to the point nearby, world units.
    """

    field: MaterialField
    smoothness: float
    similarity: float
    dielectric: float
    reach: float

    @staticmethod
    def of(field: MaterialField, settings: Settings, reach: float) -> MaterialPrior:
        """The prior of a stage's settings."""
        return MaterialPrior(
            field, settings.material_smoothness, settings.material_similarity, settings.metallic_prior, reach
        )

    def __call__(self, fragments: Fragments, positions: Tensor, material: Tensor, draws: Draws) -> Tensor:
        """The penalty, a scalar, at covered pixels with world `positions` [P, 3] and `material` [P, 5]."""
        penalty = self.dielectric * fragments.mean(material[:, 4:5])
        # A quarter of the pixels, another one in each step, regularises as well as all of them.
        some = draws.some(len(positions))
        if not len(some) or not (self.smoothness or self.similarity):
            return penalty
        covered = (fragments.triangle_ids[some] >= 0)[:, None]
        points = positions.detach()[some]
        nearby = points + torch.randn_like(points) * self.reach
        raw, raw_nearby = self.field.raw(torch.cat((points, nearby))).chunk(2)
        difference = ((raw - raw_nearby).abs() * covered).sum() / (5 * covered.sum()).clamp(min=1)
        return penalty + self.smoothness * difference + self.similarity * unlikeness(decode_material(raw), covered)


def unlikeness(material: Material, covered: Tensor) -> Tensor:
    """Mean difference in roughness and metallic between random pairs, counted by the likeness of their base colors.

    Args:
        material: at P points. Base color gets no gradient.
        covered: [P, 1] bool, which of the points count.
    """
    base_color = material.base_color.detach()
    partners = torch.randint(len(base_color), (len(base_color),), device=base_color.device)
    distance = (base_color - base_color[partners]).square().sum(dim=1, keepdim=True)
    weight = torch.exp(-distance / LIKE_COLOR**2) * (covered & covered[partners])
    difference = sum((values - values[partners]).abs() for values in (material.roughness, material.metallic))
    return (difference * weight).sum() / weight.sum().clamp(min=1)
