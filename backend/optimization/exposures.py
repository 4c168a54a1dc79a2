# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs whose capture states different exposures, as if all had been taken with their mean exposure."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..appearance.color import linear_to_srgb, srgb_to_linear
from ..capture.loader import Photos


def even_out(photos: Photos) -> Photos:
    """The same photographs at the mean of the stated exposures, those that state none as they are.

    The mean itself stays in them, and so in the light that they are explained with: seen without any exposure, the
    asset looks like its photographs. What one exposure made brighter than white stays as bright as it can be shown.
    """
    stated = ~photos.exposures.isnan()
    if not bool(stated.any()):
        return photos
    stops = torch.where(stated, photos.exposures - photos.exposures[stated].mean(), 0.0)  # [N]
    if not bool((stops.abs() > 1e-6).any()):
        return photos
    rgba = photos.rgba.clone()
    for image, table in zip(rgba, _tables(stops).to(rgba.device), strict=True):
        image[..., :3] = table[image[..., :3].int()]
    return replace(photos, rgba=rgba)


def _tables(stops: Tensor) -> Tensor:
    """What becomes of each encoded value of photographs [N] that are `stops` too bright, [N, 256] uint8."""
    values = torch.arange(256) / 255
    linear = srgb_to_linear(values) * torch.exp2(-stops)[:, None]
    return (linear_to_srgb(linear.clamp(0, 1)) * 255).round().to(torch.uint8)
