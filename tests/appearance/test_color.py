# SPDX-License-Identifier: GPL-3.0-or-later
import torch

from backend.appearance.color import linear_to_srgb, luminance, srgb_to_linear


def test_known_values() -> None:
    linear = torch.tensor([0.0, 0.0031308, 0.21404114, 1.0])
    torch.testing.assert_close(linear_to_srgb(linear), torch.tensor([0.0, 0.04045, 0.5, 1.0]), atol=1e-5, rtol=0)


def test_round_trip_beyond_the_unit_range() -> None:
    linear = torch.linspace(-0.5, 8.0, 1001)
    torch.testing.assert_close(srgb_to_linear(linear_to_srgb(linear)), linear, atol=1e-5, rtol=1e-5)


def test_gradients_are_finite_and_true() -> None:
    x = torch.tensor([-0.1, 0.0, 0.002, 0.02, 0.5, 1.5], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(linear_to_srgb, (x,))
    torch.autograd.gradcheck(srgb_to_linear, (x,))
    linear_to_srgb(x).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_luminance_of_white_is_one() -> None:
    assert luminance(torch.ones(2, 3)).shape == (2, 1)
    torch.testing.assert_close(luminance(torch.ones(2, 3)), torch.ones(2, 1))
