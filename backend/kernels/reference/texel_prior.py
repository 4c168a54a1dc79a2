# SPDX-License-Identifier: GPL-3.0-or-later
"""Slow reference of `kernels.texel_prior`."""

from __future__ import annotations

from torch import Tensor

from ..texel_prior import BELOW, RIGHT


def penalty(textures: Tensor, start: Tensor, links: Tensor, inertia: Tensor, stiffness: Tensor) -> Tensor:
    """The penalty, a scalar, differentiable in `textures` [H, W, C]."""
    change = textures - start
    total = (inertia * change.square()).sum()
    right = ((links & int(RIGHT)) > 0)[:, :-1, None] * (change[:, 1:] - change[:, :-1]).square()
    below = ((links & int(BELOW)) > 0)[:-1, :, None] * (change[1:] - change[:-1]).square()
    total = total + (stiffness * right).sum() + (stiffness * below).sum()
    return total / textures.numel()
