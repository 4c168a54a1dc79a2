# SPDX-License-Identifier: GPL-3.0-or-later
"""One update of `optimization.uniform_adam`, with all its state on the device."""

from __future__ import annotations

from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch, launch_range

wp.set_module_options(MODULE_OPTIONS)

# Times the mean entry, beyond which a gradient is cut off. Gradients of a mesh have long tails: the largest of a
# hundred thousand, of vertices at silhouettes, are 70 to 150 times the mean, and measured by them all others crawl.
# About one in a thousand is above 40.
TAIL = wp.constant(wp.float32(40.0))
# Times the largest gradient of the steps before, beyond which a gradient is cut off. Such a one is an accident (a
# sliver seen edge on), and taken at its word it would hold all other entries back for a hundred steps.
SURPRISE = wp.constant(wp.float32(3.0))


def uniform_step(
    parameter: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    count: Tensor,
    rate: Tensor,
    betas: tuple[float, float],
) -> None:
    """One step in place.

    Args:
        parameter: [...] float32, contiguous.
        gradient: as `parameter`.
        first: as `parameter`, mean of gradients; contiguous.
        second: [] float32, mean of the square of what gradients were cut off at.
        count: [] float32, steps so far.
        rate: [] float32.
        betas: how much of the two means a step keeps.
    """
    assert parameter.is_contiguous() and first.is_contiguous() and parameter.dtype == torch.float32
    device, gradient = parameter.device, gradient.contiguous()
    if not parameter.numel():
        return
    largest, mean = torch.linalg.vector_norm(gradient, torch.inf), gradient.abs().mean()  # [] each
    scale = torch.empty(2, device=device)  # length of the step per unit of `first`, and what gradients are cut off at
    numbers = [as_warp(x.reshape(1), wp.float32) for x in (largest, mean, rate)]
    state = [as_warp(second.view(1), wp.float32), as_warp(count.view(1), wp.float32)]
    found = as_warp(scale, wp.float32)
    launch(_measure, 1, [*betas, *numbers], [*state, found], device)
    flat = [as_warp(x.view(-1), wp.float32) for x in (gradient, first, parameter)]
    launch_range(_move, parameter.numel(), [betas[0], found, flat[0]], flat[1:], device)


@wp.kernel
@no_type_check
def _measure(
    beta1: wp.float32,
    beta2: wp.float32,
    largest: wp.array(dtype=wp.float32),
    typical: wp.array(dtype=wp.float32),
    rate: wp.array(dtype=wp.float32),
    second: wp.array(dtype=wp.float32),
    count: wp.array(dtype=wp.float32),
    scale: wp.array(dtype=wp.float32),
):
    """One thread. Both means are divided by 1 − β^n: they started from zero."""
    n = count[0] + 1.0
    limit = wp.min(largest[0], TAIL * typical[0])
    if second[0] > 0.0:
        limit = wp.min(limit, SURPRISE * wp.sqrt(second[0] / (1.0 - wp.pow(beta2, n - 1.0))))
    count[0] = n
    mean = beta2 * second[0] + (1.0 - beta2) * limit * limit
    second[0] = mean
    correction1 = 1.0 - wp.pow(beta1, n)
    correction2 = 1.0 - wp.pow(beta2, n)
    scale[0] = rate[0] / correction1 / (wp.sqrt(mean / correction2) + 1.0e-20)
    scale[1] = limit


@wp.kernel
@no_type_check
def _move(
    begin: wp.int32,
    beta1: wp.float32,
    scale: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
    first: wp.array(dtype=wp.float32),
    parameter: wp.array(dtype=wp.float32),
):
    i = begin + wp.tid()
    mean = beta1 * first[i] + (1.0 - beta1) * wp.clamp(gradient[i], -scale[1], scale[1])
    first[i] = mean
    parameter[i] = parameter[i] - scale[0] * mean
