# SPDX-License-Identifier: GPL-3.0-or-later
"""What is assumed of texels of which the photographs tell little: they stay where they start, and what moves them moves
their neighbors as well.

For the change d from the start, the penalty is the mean over texels and channels of inertia · d² + stiffness · Σ (d − d
of a neighbor)² / 2, over the neighbors to the four sides: a Gaussian Markov random field. An optimiser that gives every
texel a step of the same length, as Adam does, would else turn the least of gradients into noise.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch_range

wp.set_module_options(MODULE_OPTIONS)

RIGHT, BELOW = wp.constant(1), wp.constant(2)  # bits of a texel's links
REACH = 2  # texels between the covered texels that stand in for two neighbors, if these are of one chart


class TexelPrior:
    """The penalty's gradient for a texture [H, W, C].

    Args:
        start: [H, W, C] float32.
        links: [H, W] uint8, as `link_texels` has them.
        inertia, stiffness: [C] float32, weights of the channels.
    """

    def __init__(self, start: Tensor, links: Tensor, inertia: Tensor, stiffness: Tensor) -> None:
        self.start = start.detach().contiguous()
        self.links, self.inertia, self.stiffness = links.contiguous(), inertia, stiffness

    @torch.no_grad()
    def add_gradient(self, textures: Tensor) -> None:
        """Add the penalty's gradient to that of `textures`."""
        assert textures.grad is not None and textures.is_contiguous() and textures.grad.is_contiguous()
        height, width, channels = textures.shape
        arrays = [as_warp(x.reshape(-1), wp.float32) for x in (textures, self.start)]
        weights = [as_warp(x, wp.float32) for x in (self.inertia, self.stiffness)]
        launch_range(
            _add_gradient,
            textures.numel(),
            [*arrays, as_warp(self.links.view(-1), wp.uint8), *weights, height, width, channels],
            [as_warp(textures.grad.view(-1), wp.float32)],
            textures.device,
        )


def link_texels(nearest: np.ndarray) -> np.ndarray:
    """Which neighbors are of one chart: bits RIGHT and BELOW [H, W] uint8.

    Args:
        nearest: [H, W] int64, flat index of the covered texel nearest to each.
    """
    place = np.stack(np.divmod(nearest, nearest.shape[1]))  # [2, H, W]
    links = np.zeros(nearest.shape, np.uint8)
    links[:, :-1] |= int(RIGHT) * (np.abs(np.diff(place, axis=2)).max(0) <= REACH).astype(np.uint8)
    links[:-1] |= int(BELOW) * (np.abs(np.diff(place, axis=1)).max(0) <= REACH).astype(np.uint8)
    return links


@wp.kernel
@no_type_check
def _add_gradient(
    begin: int,
    values: wp.array(dtype=wp.float32),
    start: wp.array(dtype=wp.float32),
    links: wp.array(dtype=wp.uint8),
    inertia: wp.array(dtype=wp.float32),
    stiffness: wp.array(dtype=wp.float32),
    height: int,
    width: int,
    channels: int,
    gradient: wp.array(dtype=wp.float32),
):
    i = begin + wp.tid()
    texel = i // channels
    channel = i - texel * channels
    column = texel % width
    row_length = width * channels
    change = values[i] - start[i]
    apart = wp.float32(0.0)
    link = wp.int32(links[texel])
    if (link & RIGHT) != 0:
        apart += change - (values[i + channels] - start[i + channels])
    if (link & BELOW) != 0:
        apart += change - (values[i + row_length] - start[i + row_length])
    if column > 0:
        if (wp.int32(links[texel - 1]) & RIGHT) != 0:
            apart += change - (values[i - channels] - start[i - channels])
    if texel >= width:
        if (wp.int32(links[texel - width]) & BELOW) != 0:
            apart += change - (values[i - row_length] - start[i - row_length])
    pull = inertia[channel] * change + stiffness[channel] * apart
    gradient[i] = gradient[i] + 2.0 / float(height * width * channels) * pull
