# SPDX-License-Identifier: GPL-3.0-or-later
"""Adam for voxels of which a step meets only a few."""

from __future__ import annotations

from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch_range

wp.set_module_options(MODULE_OPTIONS)


@wp.kernel
@no_type_check
def _masked_adam(
    begin: int,
    rate: wp.vec4,
    beta1: float,
    beta2: float,
    correction: wp.vec2,
    values: wp.array(dtype=wp.vec4),
    gradient: wp.array(dtype=wp.vec4),
    first: wp.array(dtype=wp.vec4),
    second: wp.array(dtype=wp.vec4),
):
    """Adam for the voxels that a ray has met in this step; clears their gradient."""
    i = begin + wp.tid()
    g = gradient[i]
    if wp.dot(g, g) > 0.0:
        m = beta1 * first[i] + (1.0 - beta1) * g
        v = beta2 * second[i] + (1.0 - beta2) * wp.cw_mul(g, g)
        first[i] = m
        second[i] = v
        step = wp.vec4(0.0, 0.0, 0.0, 0.0)
        for c in range(4):
            step[c] = rate[c] * (m[c] / correction[0]) / (wp.sqrt(v[c] / correction[1]) + 1.0e-12)
        values[i] = values[i] - step
        gradient[i] = wp.vec4(0.0, 0.0, 0.0, 0.0)


class MaskedAdam:
    """Adam (Kingma and Ba 2015) on voxels [N, 4] that leaves those alone which no ray has met in a step."""

    def __init__(self, values: Tensor, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.values = values
        self.gradient = torch.zeros_like(values)
        self._moments = torch.zeros_like(values), torch.zeros_like(values)
        self._betas = betas
        self._steps = 0

    def step(self, density_rate: float, color_rate: float) -> None:
        """One step; clears the gradient."""
        self._steps += 1
        first, second = self._betas
        correction = wp.vec2(1 - first**self._steps, 1 - second**self._steps)
        arrays = [as_warp(x, wp.vec4) for x in (self.values, self.gradient, *self._moments)]
        rates = wp.vec4(density_rate, color_rate, color_rate, color_rate)
        launch_range(_masked_adam, len(self.values), [rates, first, second, correction], arrays, self.values.device)
