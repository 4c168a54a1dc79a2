# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from backend.export.contact_sheet import CELL, make_sheet, row_from_render, tonemap

from .shapes import compass


def test_a_row_shows_its_images_side_by_side():
    red, blue = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80, 3))
    red[..., 0], blue[..., 2] = 255, 1.0
    sheet = np.asarray(make_sheet([{"photo": red, "render": blue, "title": "a", "text": "30.0 dB"}]))
    reds, blues = (np.argwhere((sheet == color).all(-1)) for color in ([255, 0, 0], [0, 0, 255]))
    assert len(reds) == len(blues) == 300 * 225
    assert (reds[:, 0] == blues[:, 0]).all() and reds[:, 1].max() < blues[:, 1].min()


@pytest.mark.parametrize("size", [(64, 64), (800, 800), (1920, 1080), (300, 4000)])
def test_width_stays_in_bounds(size: tuple[int, int]):
    image = np.full((*size, 3), 0.5)
    keys = ("photo", "render", "base_color", "roughness", "metallic", "normal")
    sheet = make_sheet([dict.fromkeys(keys, image)] * 2, compass(), "Title", [("PSNR", "30 dB")] * 3)
    assert 1500 <= sheet.width <= 2400 and sheet.height < 4000


def test_images_are_cut_to_what_is_covered():
    color, alpha = np.ones((100, 100, 3)), np.zeros((100, 100, 1))
    alpha[40:60, 40:50] = 1
    rendered = {"color": color, "alpha": alpha, "base_color": color, "normal": color}
    rendered |= {"roughness": alpha, "metallic": alpha}
    row = row_from_render(np.concatenate([color, alpha], axis=-1), rendered, "a", "b")
    assert row["render"].shape == (100, 100, 4)
    sheet = np.asarray(make_sheet([row]))
    white, background = (sheet == 255).all(-1), (sheet == CELL).all(-1)
    # the object covers 10 × 20 of what is cut to 22 × 32 pixels, in four of the six cells all white
    assert white.sum() / background.sum() > 0.15


def test_odd_rows_do_not_fail():
    gray = np.linspace(0, 1, 40)[None].repeat(30, 0)
    broken = np.full((30, 40, 3), np.nan)
    rows = [{"photo": gray, "title": "x" * 200}, {"render": broken}, {"metallic": gray[..., None], "photo": None}, {}]
    assert make_sheet(rows).width > 0
    assert make_sheet([]).width > 0


def test_tonemap_keeps_a_sun_and_a_dark_room_readable():
    for gain in (1e-3, 1.0, 1e3):
        light = compass() * np.float32(gain)
        light[3, 5] = 1e5 * gain
        shown = tonemap(light)
        assert shown.min() >= 0 and shown.max() <= 1 and 0.3 < np.median(shown) < 0.8
    assert (tonemap(np.zeros((4, 8, 3))) == 0).all()
