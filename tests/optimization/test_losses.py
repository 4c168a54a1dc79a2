# SPDX-License-Identifier: GPL-3.0-or-later
"""Image losses: zero only at equality, pulling the right way, deaf to pixels that do not count."""

from __future__ import annotations

import math

import pytest
import torch

from backend.optimization.losses import KNEE, composite, huber, image_loss, psnr


def pictures(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two different premultiplied pictures [B, 6, 5, 4] and a background."""
    generator = torch.Generator().manual_seed(0)
    one, two = torch.rand(2, batch, 6, 5, 4, generator=generator)
    one[..., :3] *= one[..., 3:]
    two[..., :3] *= two[..., 3:]
    return one, two, torch.rand(batch, 1, 1, 3, generator=generator)


def test_composite_is_over() -> None:
    half_red = torch.tensor([0.5, 0.0, 0.0, 0.5])
    torch.testing.assert_close(composite(half_red, torch.tensor([0.0, 1.0, 0.0])), torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(composite(torch.zeros(4), torch.ones(3)), torch.ones(3))


def test_equal_pictures_cost_nothing_and_different_ones_something() -> None:
    one, two, background = pictures()
    assert float(image_loss(one, one, background, None)) == 0
    assert float(image_loss(one, two, background, None)) > 0.01
    for channel in range(4):
        changed = one.clone()
        changed[1, 2, 3, channel] += 0.3
        assert float(image_loss(changed, one, background, None)) > 1e-4


def test_the_gradient_leads_to_the_photograph() -> None:
    _, photo, background = pictures()
    for channel in range(4):
        for sign in (-1, 1):
            rendered = photo.clone()
            rendered[..., channel] += 0.2 * sign
            rendered.requires_grad_()
            (gradient,) = torch.autograd.grad(image_loss(rendered, photo, background, None), rendered)
            assert (gradient[..., channel] * sign > 0).all()
    rendered = torch.full_like(photo, 0.5).requires_grad_()
    optimizer = torch.optim.Adam([rendered], 0.02)
    for _ in range(400):
        optimizer.zero_grad()
        image_loss(rendered, photo, background, None).backward()
        optimizer.step()
    torch.testing.assert_close(rendered.detach(), photo, atol=0.02, rtol=0)


def test_color_cannot_stand_in_for_coverage() -> None:
    # Opaque white against nothing: equal over white, and coverage still tells them apart.
    white, nothing = torch.ones(1, 4, 4, 4), torch.zeros(1, 4, 4, 4)
    over_white = image_loss(white, nothing, torch.ones(1, 1, 1, 3), None)
    over_black = image_loss(white, nothing, torch.zeros(1, 1, 1, 3), None)
    assert 0 < float(over_white) < float(over_black)


def test_pixels_that_are_not_valid_do_not_count() -> None:
    one, two, background = pictures()
    valid = torch.ones(2, 6, 5, 1)
    torch.testing.assert_close(image_loss(one, two, background, valid), image_loss(one, two, background, None))
    valid[:, :, 3:] = 0
    kept = torch.where(valid > 0, two, one)
    torch.testing.assert_close(image_loss(one, two, background, valid), image_loss(one, kept, background, None))
    rendered = one.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(image_loss(rendered, two, background, valid), rendered)
    assert not gradient[:, :, 3:].any() and gradient[:, :, :3].any()
    assert float(image_loss(one, two, background, torch.zeros_like(valid))) == 0


def test_huber_joins_smoothly_and_grows_like_the_error() -> None:
    knee = torch.tensor([KNEE - 1e-4, KNEE + 1e-4], requires_grad=True)
    values = huber(knee, KNEE)
    (slopes,) = torch.autograd.grad(values.sum(), knee)
    torch.testing.assert_close(slopes, torch.ones(2), atol=5e-3, rtol=0)
    assert float((values[1] - values[0]).detach()) == pytest.approx(2e-4, rel=1e-2)
    torch.testing.assert_close(huber(torch.tensor([-0.9, 0.9]), KNEE), torch.full((2,), 0.9 - KNEE / 2))


def test_psnr() -> None:
    assert psnr(1.0) == 0 and psnr(0.01) == pytest.approx(20) and psnr(0.25) == pytest.approx(6.0206, abs=1e-3)
    assert math.isfinite(psnr(0.0)) and psnr(0.0) >= 100
