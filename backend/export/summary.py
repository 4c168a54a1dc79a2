# SPDX-License-Identifier: GPL-3.0-or-later
"""The contact sheet of an asset that has just been made: its views rendered, measured and laid out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image

from ..capture.model import View, mean_exposure
from . import metrics
from .asset import Asset
from .contact_sheet import make_sheet, row_from_render
from .evaluate import MakeRenderer, default_renderer, exposed, load_pinhole, on_white_pair, render_view


class Summary(NamedTuple):
    """A contact sheet, and the PSNR in dB of the views on it, by name."""

    sheet: Image.Image
    psnr: dict[str, float]


def summarize(
    asset: Asset,
    views: Sequence[View],
    title: str = "",
    facts: Sequence[tuple[str, str]] = (),
    device: str = "cpu",
    most: int = 4,
    make_renderer: MakeRenderer | None = None,
) -> Summary:
    """A contact sheet with at most `most` of the views, evenly chosen; held-out ones where there are any.

    `facts` are (name, value) lines; those about the asset itself are added. Raises UserError where a photograph cannot
    be read.
    """
    chosen = _evenly([view for view in views if view.split == "test"] or list(views), most)
    renderer = (make_renderer or default_renderer)(asset, device)
    rows, psnr = [], {}
    light, mean = torch.as_tensor(asset.environment, device=device), mean_exposure(views)
    for photo in load_pinhole(chosen):
        rendered = render_view(renderer, photo.view, exposed(light, photo.view, mean))
        truth, image = on_white_pair(photo, rendered)
        shown = photo.rgba if photo.masked else photo.rgba[..., :3]
        found = psnr[photo.view.name] = metrics.psnr(image, truth)
        rows.append(row_from_render(shown, rendered, photo.view.name, f"{found:.1f} dB"))
    height, width = asset.base_color.shape[:2]
    own = [
        ("Mesh", f"{len(asset.triangles):,} triangles".replace(",", " ")),
        ("Textures", f"{width} x {height}"),
        ("Environment", f"{asset.environment.shape[1]} x {asset.environment.shape[0]}"),
    ]
    return Summary(make_sheet(rows, asset.environment, title or asset.name, [*facts, *own]), psnr)


def _evenly(views: Sequence[View], most: int) -> list[View]:
    count = min(most, len(views))
    return [views[round(index * (len(views) - 1) / max(count - 1, 1))] for index in range(count)]
