# SPDX-License-Identifier: GPL-3.0-or-later
"""The contact sheet: what was photographed beside what was reconstructed, on one page to judge at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from .asset import FloatArray
from .textures import quantize, srgb_from_linear

COLUMNS = {
    "photo": "Photograph",
    "render": "Render",
    "base_color": "Base color",
    "roughness": "Roughness",
    "metallic": "Metallic",
    "normal": "Normal",
}
PAGE, CELL, LINE = (26, 27, 30), (46, 48, 52), (62, 64, 70)
TEXT, MUTED, ACCENT = (236, 237, 240), (158, 161, 168), (255, 179, 71)
MARGIN, GAP = 36, 10
MIN_CELL, MIN_ASPECT, MAX_ASPECT = 300, 0.6, 1.6
PADDING = 0.06


def make_sheet(
    rows: Sequence[Mapping[str, Any]],
    environment: npt.NDArray[np.floating] | None = None,
    title: str = "Unrender",
    facts: Sequence[tuple[str, str]] = (),
    max_width: int = 2400,
) -> Image.Image:
    """Lay out one row per view: photograph, render, base color, roughness, metallic, normal.

    Each row maps the keys of `COLUMNS` to display-encoded images [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (straight
    alpha), float 0..1 or uint8; missing ones stay blank, and columns that no row fills are left out. "title" names the
    row, "text" stands under its render (its PSNR, say). `environment` is lat-long linear radiance [h, w, 3].
    Where images carry alpha, the row shows what any of them covers. `facts` are (name, value) lines beside it.
    `row_from_render` makes a row of what a renderer returns.
    """
    rows = [_cropped(row) for row in rows]
    columns = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)] or ["photo", "render"]
    count = len(columns)
    widest = max((np.shape(row[key])[1] for row in rows for key in columns if row.get(key) is not None), default=0)
    room = (max_width - 2 * MARGIN - (count - 1) * GAP) // count
    cell = min(max(widest, MIN_CELL), room)
    width = 2 * MARGIN + count * cell + (count - 1) * GAP
    scale = min(max(width / 2000, 0.75), 1.2)
    fonts = {name: ImageFont.load_default(size * scale) for name, size in (("title", 46), ("head", 28), ("text", 26))}
    line = round(36 * scale)

    heights = [_cell_height(row, columns, cell) for row in rows]
    top = MARGIN + round(70 * scale) + line + GAP
    bottom = top + sum(height + line + 2 * GAP for height in heights)
    light_width = min(width - 2 * MARGIN, max((width - 2 * MARGIN) * 2 // 5, 320))
    light_height = 0 if environment is None else light_width * environment.shape[0] // environment.shape[1]
    footer = max(light_height, len(facts) * line)
    height = bottom + (line + GAP + footer + MARGIN if footer else MARGIN // 2)

    page = Image.new("RGB", (width, height), PAGE)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN - 4), title, TEXT, fonts["title"])
    lefts = [MARGIN + i * (cell + GAP) for i in range(count)]
    for left, key in zip(lefts, columns):
        draw.text((left, top - GAP), COLUMNS[key], MUTED, fonts["head"], anchor="ls")

    y = top
    for row, cell_height in zip(rows, heights):
        for left, key in zip(lefts, columns):
            box = (left, y, left + cell, y + cell_height)
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), CELL)
            if row.get(key) is not None:
                _paste(page, _picture(row[key]), box)
        _caption(draw, str(row.get("title", "")), lefts[0], y + cell_height, cell, TEXT, fonts["text"])
        if "render" in columns:
            left = lefts[columns.index("render")]
            _caption(draw, str(row.get("text", "")), left, y + cell_height, cell, ACCENT, fonts["text"])
        y += cell_height + line + 2 * GAP

    if footer:
        draw.line((MARGIN, y, width - MARGIN, y), LINE, 1)
        y += line + GAP
        facts_left = MARGIN
        if environment is not None:
            draw.text((MARGIN, y - GAP), "Environment", MUTED, fonts["head"], anchor="ls")
            picture = Image.fromarray(quantize(tonemap(environment)))
            page.paste(picture.resize((light_width, light_height), Image.Resampling.LANCZOS), (MARGIN, y))
            facts_left += light_width + 4 * GAP
        _facts(draw, facts, facts_left, y, width - MARGIN - facts_left, line, fonts["text"])
    return page


def row_from_render(
    photo: npt.NDArray[Any],
    rendered: Mapping[str, npt.NDArray[np.floating]],
    title: str = "",
    text: str = "",
) -> dict[str, Any]:
    """A row of `make_sheet` from a photograph [H, W, 3 or 4] and one view of what a renderer returns as numpy arrays:
    color [H, W, 3] sRGB, alpha [H, W, 1], base_color [H, W, 3] linear, roughness, metallic [H, W, 1], normal [H, W, 3].
    """
    alpha = np.clip(rendered["alpha"], 0, 1)
    row: dict[str, Any] = {"photo": photo, "title": title, "text": text}
    shown = {
        "render": rendered["color"],
        "base_color": srgb_from_linear(np.asarray(rendered["base_color"], np.float32)),
        "roughness": np.repeat(rendered["roughness"], 3, axis=-1),
        "metallic": np.repeat(rendered["metallic"], 3, axis=-1),
        "normal": rendered["normal"] * 0.5 + 0.5,
    }
    return row | {key: np.concatenate([image, alpha], axis=-1) for key, image in shown.items()}


def tonemap(radiance: npt.NDArray[np.floating]) -> FloatArray:
    """Linear radiance [h, w, 3] lat-long as a picture for the screen, sRGB 0..1.

    Exposed for the geometric mean over the sphere, then Reinhard et al. 2002, equation 4, on the luminance, so that a
    sun of 10⁵ and a dim room both stay readable.
    """
    linear = np.maximum(np.asarray(radiance, np.float32), 0)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722], np.float32)  # [h, w]
    weight = np.cos((0.5 - (np.arange(len(linear)) + 0.5) / len(linear)) * np.pi)  # [h], solid angle of a row
    floor = max(float(luminance.max()) * 1e-6, 1e-9)
    key = float(np.exp(np.average(np.log(np.maximum(luminance, floor)).mean(axis=1), weights=weight)))
    exposed = luminance * (0.25 / key)
    white = max(float(np.percentile(exposed, 99.5)), 1.0)
    mapped = exposed * (1 + exposed / white**2) / (1 + exposed)
    return srgb_from_linear(linear * (mapped / np.maximum(luminance, floor))[..., None])


def _picture(image: npt.NDArray[Any]) -> Image.Image:
    array = np.asarray(image)
    array = array if array.dtype == np.uint8 else quantize(np.nan_to_num(array.astype(np.float32)))
    array = array[..., None] if array.ndim == 2 else array
    if array.shape[-1] == 1:
        array = np.repeat(array, 3, axis=-1)
    if array.shape[-1] == 4:
        alpha = array[..., 3:].astype(np.float32) / 255
        array = (array[..., :3] * alpha + np.array(CELL, np.float32) * (1 - alpha) + 0.5).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))


def _cropped(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its images of one size cut to the pixels that any of them covers, and a little around them."""
    images = {key: np.asarray(row[key]) for key in COLUMNS if row.get(key) is not None}
    sizes = {image.shape[:2] for image in images.values()}
    if len(sizes) != 1 or not any(image.ndim == 3 and image.shape[-1] == 4 for image in images.values()):
        return dict(row)
    (size,) = sizes
    covered = np.zeros(size, bool)
    for image in images.values():
        if image.ndim == 3 and image.shape[-1] == 4:
            covered |= image[..., 3] > (5 if image.dtype == np.uint8 else 0.02)
    spans = []
    for axis in (0, 1):
        hits = np.flatnonzero(covered.any(axis=1 - axis))
        low, high = (int(hits[0]), int(hits[-1]) + 1) if len(hits) else (0, size[axis])
        pad = round(PADDING * max(size))
        spans.append(slice(max(low - pad, 0), min(high + pad, size[axis])))
    return dict(row) | {key: image[spans[0], spans[1]] for key, image in images.items()}


def _cell_height(row: Mapping[str, Any], columns: Sequence[str], cell: int) -> int:
    shapes = [np.shape(row[key]) for key in columns if row.get(key) is not None]
    aspect = max((shape[0] / shape[1] for shape in shapes), default=0.75)
    return round(cell * min(max(aspect, MIN_ASPECT), MAX_ASPECT))


def _paste(page: Image.Image, picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    width, height = box[2] - box[0], box[3] - box[1]
    factor = min(width / picture.width, height / picture.height)
    size = max(round(picture.width * factor), 1), max(round(picture.height * factor), 1)
    left, top = box[0] + (width - size[0]) // 2, box[1] + (height - size[1]) // 2
    page.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))


def _fit(draw: ImageDraw.ImageDraw, text: str, room: int, font: Any) -> str:
    """`text`, its middle replaced by dots where it is wider than `room` pixels."""
    kept = len(text)
    shown = text
    while kept > 1 and draw.textlength(shown, font) > room:
        kept -= 1
        shown = text[: (kept + 1) // 2] + "..." + text[len(text) - kept // 2 :]
    return shown


def _caption(
    draw: ImageDraw.ImageDraw, text: str, left: int, top: int, room: int, color: tuple[int, int, int], font: Any
) -> None:
    draw.text((left, top + GAP // 2), _fit(draw, text, room, font), color, font)


def _facts(
    draw: ImageDraw.ImageDraw,
    facts: Sequence[tuple[str, str]],
    left: int,
    top: int,
    room: int,
    line: int,
    font: Any,
) -> None:
    names = max((draw.textlength(name, font) for name, _ in facts), default=0)
    value_left = left + min(round(names), room // 2) + 3 * GAP
    for index, (name, value) in enumerate(facts):
        y = top + index * line
        draw.text((left, y), _fit(draw, name, room // 2, font), MUTED, font)
        draw.text((value_left, y), _fit(draw, value, room - (value_left - left), font), TEXT, font)
