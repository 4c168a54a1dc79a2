# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pixels of a photograph show the object: its alpha channel, or a mask file beside it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import UserError
from .image_file import decode_mask, decode_photo
from .model import View

MaskSource = Literal["alpha", "file", "none"]


def decode_view(view: View) -> tuple[np.ndarray, MaskSource]:
    """Decode a view's photograph and put its mask into the alpha channel.

    An alpha channel that hides anything goes before the mask file; one that hides nothing is no mask, unless there is
    no file either and ``masked_views`` finds that other views' channels do.

    Returns ([H, W, 4] uint8 sRGB-encoded, straight alpha; where the mask comes from). Raises UserError.
    """
    rgba, has_alpha = decode_photo(view.image)
    if has_alpha and (view.mask is None or rgba[..., 3].min() < 255):
        return rgba, "alpha"
    if view.mask is None:
        return rgba, "none"
    mask = decode_mask(view.mask)
    if mask.shape != rgba.shape[:2]:
        raise UserError(
            "the mask has another size than its image",
            str(view.mask),
            f"{rgba.shape[1]} x {rgba.shape[0]} pixels as {view.image.name}",
            f"{mask.shape[1]} x {mask.shape[0]}",
            "Export the masks at the images' resolution.",
        )
    rgba[..., 3] = np.where(mask, 255, 0)
    return rgba, "file"


def masked_views(sources: list[MaskSource], coverages: list[float]) -> list[bool]:
    """Which views have a mask, given each one's source and the part of its pixels that the mask shows (0…1).

    Alpha channels count only where at least one view's hides something: cameras and converters write opaque ones.
    """
    alpha_counts = any(
        source == "alpha" and coverage < 1.0 for source, coverage in zip(sources, coverages, strict=True)
    )
    return [source == "file" or (source == "alpha" and alpha_counts) for source in sources]
