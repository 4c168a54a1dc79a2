# SPDX-License-Identifier: GPL-3.0-or-later
"""What is assumed of materials where the photographs do not tell: the same as next to it, and no metal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..appearance.fragments import Fragments
from ..appearance.material import MaterialField
from .views import Draws


@dataclass(frozen=True)
class MaterialPrior:
    """Penalty on a material field.

    Attributes:
        smoothness: weight of the mean difference between a point and a random one nearby.
        dielectric: weight of the mean metallic.
        reach: standard deviation of the distance to the point nearby, world units.
    """

    field: MaterialField
    smoothness: float
    dielectric: float
    reach: float

    def __call__(self, fragments: Fragments, positions: Tensor, material: Tensor, draws: Draws) -> Tensor:
        """The penalty, a scalar, at covered pixels with world `positions` [P, 3] and `material` [P, 5]."""
        penalty = self.dielectric * fragments.mean(material[:, 4:5])
        if self.smoothness:
            # A quarter of the pixels, another one in each step, regularises as well as all of them.
            some = draws.some(len(positions))
            points = positions.detach()[some]
            nearby = points + torch.randn_like(points) * self.reach
            raw = self.field.raw(torch.cat((points, nearby)))
            difference = (raw[: len(points)] - raw[len(points) :]).abs()
            covered = (fragments.triangle_ids[some] >= 0)[:, None]
            penalty = penalty + self.smoothness * (difference * covered).sum() / (5 * covered.sum()).clamp(min=1)
        return penalty
