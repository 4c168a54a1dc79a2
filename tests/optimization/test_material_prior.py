# SPDX-License-Identifier: GPL-3.0-or-later
"""One roughness and metallic per color: what the prior measures, and that a fit obeys it."""

from __future__ import annotations

import torch

from backend.appearance.material import Material
from backend.optimization.material_prior import LIKE_COLOR, unlikeness

POINTS = 4000


def material(base_color: torch.Tensor, roughness: torch.Tensor, metallic: torch.Tensor | None = None) -> Material:
    return Material(base_color, roughness, torch.zeros_like(roughness) if metallic is None else metallic)


def two_colors(distance: float) -> torch.Tensor:
    """[P, 3], every other point by `distance` redder."""
    color = torch.full((POINTS, 3), 0.3)
    color[::2, 0] += distance
    return color


def roughness_by_turns() -> torch.Tensor:
    """[P, 1], 0.2 and 0.8 by turns."""
    return torch.tensor([0.2, 0.8]).repeat(POINTS // 2)[:, None]


EVERYWHERE = torch.ones(POINTS, 1, dtype=torch.bool)


def test_colors_far_apart_may_differ() -> None:
    torch.manual_seed(0)
    assert float(unlikeness(material(two_colors(5 * LIKE_COLOR), roughness_by_turns()), EVERYWHERE)) < 1e-6


def test_one_color_may_not() -> None:
    torch.manual_seed(0)
    same = two_colors(0.0)
    half_of_the_pairs = float(unlikeness(material(same, roughness_by_turns()), EVERYWHERE))
    assert abs(half_of_the_pairs - 0.5 * 0.6) < 0.02
    both = float(unlikeness(material(same, roughness_by_turns(), roughness_by_turns()), EVERYWHERE))
    assert abs(both - 2 * 0.5 * 0.6) < 0.04


def test_uncovered_points_do_not_count() -> None:
    torch.manual_seed(0)
    covered = EVERYWHERE.clone()
    covered[::2] = False  # all that remain are of one roughness
    assert float(unlikeness(material(two_colors(0.0), roughness_by_turns()), covered)) == 0.0
    assert float(unlikeness(material(two_colors(0.0), roughness_by_turns()), EVERYWHERE & False)) == 0.0


def test_the_gradient_draws_like_colors_together_and_leaves_the_color_alone() -> None:
    torch.manual_seed(0)
    color = two_colors(5 * LIKE_COLOR).requires_grad_()
    roughness = torch.rand(POINTS, 1).requires_grad_()
    rate = 0.02
    for _ in range(200):
        (gradient,) = torch.autograd.grad(POINTS * unlikeness(material(color, roughness), EVERYWHERE), roughness)
        with torch.no_grad():
            roughness -= rate * gradient
        rate *= 0.98
    assert color.grad is None
    values = roughness.detach()
    assert float(values[::2].std()) < 0.02 and float(values[1::2].std()) < 0.02
