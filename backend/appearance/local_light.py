# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment as points on the object receive it: shadowed, and with the object's own reflection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.shadows import side_of
from .cube_map import sample_vertex_cubes
from .environment import Prefiltered
from .fragments import Fragments
from .transport import Transport, VertexLight


@dataclass(frozen=True)
class LocalLight:
    """Light at the covered pixels, in the form that `split_sum` reads.

    Attributes:
        environment: the distant light.
        transport: visibility of the mesh.
        fragments: the pixels.
        share: [P, 3], share of the unshadowed irradiance that arrives.
        glow: [V, B, 3] at the vertices, mean radiance of what hides the environment, as `VertexLight` has it.
    """

    environment: Prefiltered
    transport: Transport
    fragments: Fragments
    share: Tensor
    glow: Tensor

    @staticmethod
    def at(fragments: Fragments, transport: Transport, environment: Prefiltered, arriving: VertexLight) -> LocalLight:
        """Light at `fragments` from what arrives at the vertices."""
        return LocalLight(environment, transport, fragments, fragments.interpolate(arriving.share), arriving.glow)

    def irradiance(self, normals: Tensor) -> Tensor:
        """Irradiance [P, 3] for `normals` [P, 3] near those of the mesh."""
        return self.environment.irradiance(normals) * self.share

    def radiance(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """Mean radiance [P, 3] of the lobe of `roughness` [P, 1] around `directions` [P, 3].

        Visible share and glow are constants: only the environment's radiance has a gradient.
        """
        fragments = self.fragments
        place = (fragments.triangles, fragments.triangle_ids, fragments.barycentrics, directions)
        visible = self.transport.specular_visibility(*place, roughness)
        side = torch.tensor(side_of(self.glow), device=directions.device)
        glow = sample_vertex_cubes(self.glow, *place, side, torch.zeros_like(side))
        return torch.lerp(glow, self.environment.radiance(directions, roughness), visible)
