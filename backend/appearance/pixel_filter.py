# SPDX-License-Identifier: GPL-3.0-or-later
"""From samples to pixels as Cycles does it: a Blackman-Harris filter over linear radiance.

What is optimised is averaged over pixels alone instead: through this filter, which reaches into the neighbors,
photographs do not tell sharp textures from noisy ones, and the asset comes out worse in Cycles.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from .color import linear_to_srgb

FILTER_WIDTH = 3.0  # pixels from end to end: Blender's default of 1.5, which Cycles doubles for this filter
MIN_ALPHA = 1e-6  # coverage below which a pixel has no color
BLACKMAN_HARRIS = (0.35875, 0.48829, 0.14128, 0.01168)  # (Harris 1978)


def sample_intrinsics(intrinsics: Tensor, samples: int) -> Tensor:
    """Intrinsics [..., 4] (fx fy cx cy) of the image of samples for those of the image of pixels."""
    shift = (samples - 1) / 2
    return intrinsics * samples - intrinsics.new_tensor([0.0, 0.0, shift, shift])


def filter_pixels(image: Tensor, samples: int, width: float = FILTER_WIDTH) -> Tensor:
    """Pixels [B, H, W, C] of an image of samples [B, n·H, n·W, C]; beyond the border its edge goes on.

    Args:
        samples: n, along a side of a pixel.
        width: of the filter, pixels.
    """
    weights = filter_weights(samples, width)
    reach = len(weights) // 2
    before, after = reach, max(0, reach - samples + 1)
    for axis in (1, 2):
        moved = image.transpose(1, axis)
        first, last = moved[:, :1].expand(-1, before, -1, -1), moved[:, -1:].expand(-1, after, -1, -1)
        padded = torch.cat((first, moved, last), dim=1)
        end = samples * (moved.shape[1] // samples - 1) + 1
        taps = (padded[:, k : k + end : samples] * weight for k, weight in enumerate(weights))
        image = functools.reduce(torch.add, taps).transpose(1, axis)
    return image


@functools.cache
def filter_weights(samples: int, width: float) -> tuple[float, ...]:
    """Weights of the samples around the one in a pixel's center, along one axis; they add up to one."""
    reach = max(0, math.ceil(width / 2 * samples) - 1)
    phases = [2 * math.pi * k / (samples * width) for k in range(-reach, reach + 1)]
    values = [sum(a * math.cos(i * phase) for i, a in enumerate(BLACKMAN_HARRIS)) for phase in phases]
    return tuple(value / sum(values) for value in values)


def mean_pixels(image: Tensor, samples: int) -> Tensor:
    """The means [B, H, W, 4] of the samples in each pixel, sRGB-encoded.

    Args:
        image: [B, n·H, n·W, 4] float32, linear radiance, premultiplied, and alpha.
        samples: n, along a side of a pixel.

    Returns:
        Color clamped to 0..1, encoded, premultiplied; and alpha.
    """
    means = functional.avg_pool2d(image.permute(0, 3, 1, 2), samples).permute(0, 2, 3, 1)
    alpha = means[..., 3:]
    straight = (means[..., :3] / alpha.clamp(min=MIN_ALPHA)).clamp(0, 1)
    return torch.cat((linear_to_srgb(straight) * alpha, alpha), dim=-1)
