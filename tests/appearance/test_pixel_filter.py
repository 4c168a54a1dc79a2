# SPDX-License-Identifier: GPL-3.0-or-later
"""The pixel filter of the renders that are measured."""

from __future__ import annotations

import math

import pytest
import torch

from backend.appearance.pixel_filter import FILTER_WIDTH, filter_pixels, filter_weights, sample_intrinsics


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 8])
def test_weights_are_those_of_the_window(samples: int) -> None:
    weights = torch.tensor(filter_weights(samples, FILTER_WIDTH))
    assert float(weights.sum()) == pytest.approx(1) and bool((weights > 0).all())
    assert torch.equal(weights, weights.flip(0))
    places = torch.arange(len(weights)) - len(weights) // 2
    assert float(places[-1]) < samples * FILTER_WIDTH / 2
    # Its standard deviation, from the integral of the window: 0.1385 of the width.
    deviation = math.sqrt(float((weights * places.square()).sum())) / samples
    assert deviation == pytest.approx(0.1385 * FILTER_WIDTH, rel=0.3 if samples == 1 else 0.01)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_a_ramp_keeps_its_place(samples: int) -> None:
    """A ramp sampled where `sample_intrinsics` puts the samples has, at each pixel's center, its value there."""
    intrinsics = torch.tensor([10.0, 10.0, 0.0, 0.0])
    offset = sample_intrinsics(intrinsics, samples)[2:]  # of the image's corner, in samples
    row, column = (torch.arange(n * samples) + 0.5 for n in (9, 11))
    x, y = (column - offset[0]) / samples, (row - offset[1]) / samples  # pixels
    image = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)[None]
    pixels = filter_pixels(image, samples)[0]
    assert pixels.shape == (9, 11, 2)
    inner = pixels[2:-2, 2:-2]
    torch.testing.assert_close(inner[..., 0], (torch.arange(2, 9) + 0.5).expand(5, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(inner[..., 1], (torch.arange(2, 7) + 0.5)[:, None].expand(-1, 7), atol=1e-5, rtol=0)


def test_what_is_even_stays_even_up_to_the_border() -> None:
    image = torch.full((2, 12, 18, 3), 0.7)
    for samples in (1, 2, 3):
        torch.testing.assert_close(filter_pixels(image, samples), image[:, : 12 // samples, : 18 // samples])


def test_a_narrow_filter_takes_the_center() -> None:
    image = torch.rand(1, 6, 9, 2)
    assert torch.equal(filter_pixels(image, 3, width=0.5), image[:, ::3, ::3])
