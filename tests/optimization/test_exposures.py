# SPDX-License-Identifier: GPL-3.0-or-later
"""Stated exposures are taken out of the photographs, but for their mean."""

from __future__ import annotations

from dataclasses import replace

import torch

from backend.appearance.color import linear_to_srgb, srgb_to_linear
from backend.optimization.exposures import even_out
from tests.optimization.test_scene import sphere_photos

NOT_STATED = float("nan")


def test_photographs_of_one_scene_become_alike() -> None:
    photos = sphere_photos(5, 0.8)
    scene = torch.rand(photos.rgba.shape[1:3] + (3,), generator=torch.Generator().manual_seed(0)) * 0.2
    exposures = torch.tensor([0.5, -1.0, 2.0, NOT_STATED, 1.5])
    factors = torch.exp2(exposures.nan_to_num(0.75))  # the mean of the others
    for image, factor in zip(photos.rgba, factors):
        image[..., :3] = (linear_to_srgb((scene * factor).clamp(0, 1)) * 255).round()
    found = even_out(replace(photos, exposures=exposures))
    linear = srgb_to_linear(found.rgba[..., :3].float() / 255)
    expected = scene * 2**0.75
    for index in (0, 1, 3, 4):
        torch.testing.assert_close(linear[index], expected, atol=0.02, rtol=0.05)
    bright = scene * 4 > 1  # white in the brightest photograph, which cannot say how bright it was
    torch.testing.assert_close(linear[2][~bright], expected[~bright], atol=0.02, rtol=0.05)
    assert torch.equal(found.rgba[..., 3], photos.rgba[..., 3])
    assert torch.equal(found.rgba[3], photos.rgba[3])


def test_what_is_alike_or_not_stated_stays() -> None:
    photos = sphere_photos(3, 0.8)
    assert even_out(photos) is photos
    for exposures in ([0.5, 0.5, 0.5], [0.5, NOT_STATED, 0.5], [1.0, NOT_STATED, NOT_STATED]):
        alike = replace(photos, exposures=torch.tensor(exposures))
        assert even_out(alike) is alike
