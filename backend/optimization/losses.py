# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a render is from its photographs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

KNEE = 0.1  # errors of sRGB-encoded color below which the loss is quadratic


def composite(premultiplied: Tensor, background: Tensor) -> Tensor:
    """Premultiplied sRGB-encoded color and alpha [..., 4] over `background` [..., 3]."""
    return premultiplied[..., :3] + (1 - premultiplied[..., 3:]) * background


def image_loss(rendered: Tensor, photo: Tensor, background: Tensor, valid: Tensor | None) -> Tensor:
    """Mean color and coverage error.

    Args:
        rendered, photo: [B, H, W, 4] float32, premultiplied, sRGB-encoded.
        background: [B, 1, 1, 3] what both are laid over; a random one keeps color from standing in for coverage.
        valid: [B, H, W, 1] weight of each pixel, or None for one everywhere.

    Color counts by a Huber loss with its knee at `KNEE`: quadratic like PSNR for small errors, robust for outliers.
    """
    difference = composite(rendered, background) - composite(photo, background)
    color = huber(difference, knee=KNEE).sum(-1, keepdim=True)
    coverage = (rendered[..., 3:] - photo[..., 3:]).square()
    error = color + coverage
    return (error * valid).mean() if valid is not None else error.mean()


@torch.no_grad()
def squared_error(rendered: Tensor, photo: Tensor) -> Tensor:
    """Mean squared error over white, a scalar, of images [B, H, W, 4] as `image_loss` has them."""
    return pixel_errors(rendered.detach(), photo).mean()


def pixel_errors(rendered: Tensor, photo: Tensor) -> Tensor:
    """Squared error [B, H, W] over white, the mean of the channels, of images as `image_loss` has them."""
    white = torch.ones_like(photo[..., :3])
    return (composite(rendered, white).clamp(0, 1) - composite(photo, white)).square().mean(-1)


def huber(x: Tensor, knee: float) -> Tensor:
    """|x| with a parabola of the same slope below `knee`."""
    magnitude = x.abs()
    return torch.where(magnitude < knee, x.square() / (2 * knee), magnitude - knee / 2)


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB for a peak of one."""
    return -10 * math.log10(max(mean_squared_error, 1e-12))
