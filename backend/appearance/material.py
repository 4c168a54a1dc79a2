# SPDX-License-Identifier: GPL-3.0-or-later
"""The material field: base color, roughness and metallic as functions of position, hash grid and small MLP."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..kernels.hash_grid import HashGridConfig, OpenLevels, hash_encode, make_table

# Cycles treats lower roughness as a mirror and the optimisation gains nothing from it; GGX at alpha < 0.006 is a spike
# that no prefiltered environment of ours resolves.
MIN_ROUGHNESS = 0.08


class Material(NamedTuple):
    """Principled BSDF inputs at P points: base_color [P, 3] linear, roughness [P, 1], metallic [P, 1], all in 0..1."""

    base_color: Tensor
    roughness: Tensor
    metallic: Tensor


def decode_material(raw: Tensor) -> Material:
    """Map unbounded values [P, 5] to material inputs."""
    unit = torch.sigmoid(raw)
    return Material(unit[:, :3], MIN_ROUGHNESS + (1 - MIN_ROUGHNESS) * unit[:, 3:4], unit[:, 4:5])


class MaterialField(nn.Module):
    """Material at world positions inside a cube.

    Attributes:
        open_levels: of the hash grid; the others are as if they were not there.

    Args:
        origin: [3] low corner of the cube, world.
        extent: side of the cube, world units.
    """

    origin: Tensor  # [3] float32

    def __init__(
        self,
        origin: tuple[float, float, float],
        extent: float,
        config: HashGridConfig,
        width: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.config = config
        self.open_levels = OpenLevels(config.levels, device)
        self.register_buffer("origin", torch.tensor(origin, device=device))
        self.extent = extent
        self.table = nn.Parameter(make_table(config, device, None))
        self.mlp = nn.Sequential(
            nn.Linear(config.levels * config.features, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 5),
        ).to(device)
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            # A photographer's middle gray (0.18), half rough, mostly dielectric: where most surfaces are, and where
            # every gradient is alive. Few steps leave the level of light and base color near where they start.
            last.bias.copy_(torch.tensor([-1.5, -1.5, -1.5, 0.2, -2.0]))

    def raw(self, positions: Tensor) -> Tensor:
        """Unbounded material values [P, 5] at world `positions` [P, 3].

        Gradients flow to the positions too: color that is off draws the surface to where the field has the right one.
        """
        unit = (positions - self.origin) / self.extent
        return self.mlp(hash_encode(unit, self.table, self.config, self.open_levels.tensor))

    def values(self, positions: Tensor) -> Tensor:
        """Material inputs [P, 5] at world `positions` [P, 3]: base color, roughness, metallic."""
        return torch.cat(self(positions), dim=-1)

    def forward(self, positions: Tensor) -> Material:
        """Material at world `positions` [P, 3]."""
        return decode_material(self.raw(positions))
