# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear Rec.709 and sRGB encoding, differentiable everywhere (IEC 61966-2-1)."""

import torch
from torch import Tensor

LUMINANCE_WEIGHTS = (0.2126, 0.7152, 0.0722)  # Rec.709 primaries, D65

_LINEAR_KNEE = 0.0031308
_SRGB_KNEE = 0.04045


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Encode linear light as sRGB. Any shape; values above 1 go on along the same curve.

    Below the knee the curve is a line, also for negative values, so that gradients stay finite.
    """
    # The clamp keeps the unused branch of the power away from zero, where its slope is infinite.
    curve = 1.055 * linear.clamp_min(_LINEAR_KNEE).pow(1.0 / 2.4) - 0.055
    return torch.where(linear <= _LINEAR_KNEE, 12.92 * linear, curve)


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Decode sRGB to linear light. Any shape; the inverse of :func:`linear_to_srgb`."""
    curve = ((srgb.clamp_min(_SRGB_KNEE) + 0.055) / 1.055).pow(2.4)
    return torch.where(srgb <= _SRGB_KNEE, srgb / 12.92, curve)


def luminance(linear: Tensor) -> Tensor:
    """Relative luminance of linear Rec.709 colors [..., 3] -> [..., 1]."""
    weights = torch.tensor(LUMINANCE_WEIGHTS, dtype=linear.dtype, device=linear.device)
    return (linear * weights).sum(-1, keepdim=True)
