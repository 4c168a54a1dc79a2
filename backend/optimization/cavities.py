# SPDX-License-Identifier: GPL-3.0-or-later
"""The cavities that carving digs into a hull: where they are, and the solid in which some of them are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor
from torch.nn import functional

from ..geometry.band import Grid

DEEP = 1.0  # cells below the hull, from which on a cavity is more than a rough surface


@dataclass(frozen=True)
class Cavities:
    """Connected regions that lie deep in the hull and outside of the carved solid.

    Attributes:
        numbers: [X, Y, Z] int64, number from 1 on of the cavity that a vertex of `grid` lies in, 0 elsewhere.
        nearest: [X, Y, Z] int64, number of the cavity nearest to each vertex, 0 where there is none at all.
        count: how many there are.
    """

    grid: Grid
    numbers: Tensor
    nearest: Tensor
    count: int

    @staticmethod
    def between(hull: Tensor, carved: Tensor, grid: Grid) -> Cavities:
        """Those that `carved` [X, Y, Z] has and `hull` [X, Y, Z] has not, both signed distances on `grid`."""
        deep = ((hull < -DEEP * grid.cell_size) & (carved > 0)).cpu().numpy()
        numbers, count = label(deep, structure=np.ones((3, 3, 3)))
        places = distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
        nearest = numbers[tuple(places)] if count else numbers

        def on_device(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values.astype(np.int64)).to(hull.device)

        return Cavities(grid, on_device(numbers), on_device(nearest), count)

    def at(self, points: Tensor) -> Tensor:
        """Number [...] of the cavity that each of the world `points` [..., 3] lies in, 0 for none."""
        last = torch.tensor(self.grid.shape, device=points.device) - 1
        origin = torch.tensor(self.grid.origin, device=points.device)
        steps = ((points - origin) / self.grid.cell_size).round().long()
        x, y, z = torch.minimum(steps.clamp(min=0), last).unbind(-1)
        return self.numbers[x, y, z]

    def keep(self, kept: Tensor, hull: Tensor, carved: Tensor, grid: Grid) -> Tensor:
        """The hull with some cavities: signed distance on `grid`, as `hull` and `carved` [X, Y, Z] are.

        Args:
            kept: [count + 1] bool, by number.
        """
        share = resampled(kept[self.nearest].float(), self.grid, grid)
        return torch.lerp(hull, carved, share)


def resampled(field: Tensor, grid: Grid, other: Grid) -> Tensor:
    """A field [X, Y, Z] on `grid` read at the vertices of `other`, between its own by trilinear interpolation."""
    positions = other.all_positions(field.device)
    steps = torch.tensor(grid.shape, device=field.device) - 1
    unit = (positions - torch.tensor(grid.origin, device=field.device)) / grid.cell_size / steps  # [M, 3] in 0..1
    places = (2 * unit - 1).flip(-1).view(1, 1, 1, -1, 3)  # z, y, x: the last axis of the field first
    values = functional.grid_sample(field[None, None], places, padding_mode="border", align_corners=True)
    return values.view(other.shape)
