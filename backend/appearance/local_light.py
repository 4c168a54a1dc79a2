# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment as points on the object receive it: shadowed, and with the object's own reflection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .environment import Prefiltered
from .fragments import Fragments
from .transport import Transport


@dataclass(frozen=True)
class LocalLight:
    """Light at the covered pixels, in the form that `split_sum` reads.

    Attributes:
        environment: the distant light.
        transport: visibility of the mesh.
        fragments: the pixels.
        arriving: [P, 6], share of the unshadowed irradiance that arrives, and mean radiance of the occluded directions.
    """

    environment: Prefiltered
    transport: Transport
    fragments: Fragments
    arriving: Tensor

    @staticmethod
    def at(fragments: Fragments, transport: Transport, environment: Prefiltered, arriving: Tensor) -> LocalLight:
        """Light at `fragments` from what arrives [V, 6] at the vertices, as `Transport.light_vertices` has it."""
        return LocalLight(environment, transport, fragments, fragments.interpolate(arriving))

    @property
    def share(self) -> Tensor:
        """[P, 3], share of the unshadowed irradiance that arrives."""
        return self.arriving[:, :3]

    @property
    def glow(self) -> Tensor:
        """[P, 3], mean radiance of the occluded directions."""
        return self.arriving[:, 3:]

    def irradiance(self, normals: Tensor) -> Tensor:
        """Irradiance [P, 3] for `normals` [P, 3] near those of the mesh."""
        return self.environment.irradiance(normals) * self.share

    def radiance(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """Mean radiance [P, 3] of the lobe of `roughness` [P, 1] around `directions` [P, 3]."""
        visible = self.transport.specular_visibility(
            self.fragments.triangles, self.fragments.triangle_ids, self.fragments.barycentrics, directions, roughness
        )
        return torch.lerp(self.glow, self.environment.radiance(directions, roughness), visible)
