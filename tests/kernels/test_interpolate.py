# SPDX-License-Identifier: GPL-3.0-or-later
"""Interpolation against gathering, values and both gradients."""

from __future__ import annotations

import pytest
import torch

from backend.kernels.interpolate import interpolate
from backend.kernels.reference import interpolate as slow
from tests.kernels.scenes import leaf


def sample(seed: int, shape: tuple[int, ...], attributes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Random attributes, triangles, ids (a quarter background) and weights for pixels of a shape."""
    generator = torch.Generator().manual_seed(seed)
    triangles = torch.randint(0, attributes[-2], (25, 3), generator=generator).to(torch.int32)
    ids = torch.randint(-8, 25, shape, generator=generator).clamp(min=-1).to(torch.int32)
    weights = torch.rand(*shape, 3, generator=generator)
    weights = (weights / weights.sum(-1, keepdim=True))[..., :2]
    return torch.randn(attributes, generator=generator), triangles, ids, weights


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [((2, 9, 7), (20, 3)), ((2, 9, 7), (2, 20, 5)), ((100,), (20, 1)), ((100,), (20, 16)), ((3, 4, 4), (3, 20, 2))],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_matches_reference(device: str, shape: tuple[int, ...], attributes: tuple[int, ...], seed: int) -> None:
    values, triangles, ids, weights = sample(seed, shape, attributes)
    fast = [leaf(values, device), leaf(weights, device)]
    exact = [leaf(values, torch.float64), leaf(weights, torch.float64)]
    result = interpolate(fast[0], triangles.to(device), ids.to(device), fast[1])
    expected = slow.interpolate(exact[0], triangles, ids, exact[1])
    assert result.shape == (*shape, attributes[-1])
    torch.testing.assert_close(result.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed))
    (result * weight.to(device)).sum().backward()
    (expected * weight).sum().backward()
    for mine, reference in zip(fast, exact):
        torch.testing.assert_close(mine.grad.cpu().double(), reference.grad, rtol=1e-4, atol=1e-4)


def test_long_runs_of_one_triangle(device: str) -> None:
    """Neighboring pixels of one triangle add up before they write, within a GPU's warp and across its borders."""
    values, triangles, _, _ = sample(5, (1,), (20, 3))
    lengths = torch.tensor([1, 2, 31, 32, 33, 3, 70, 5, 64, 1, 17])
    ids = torch.arange(-1, len(lengths) - 1, dtype=torch.int32).repeat_interleave(lengths)
    weights = torch.rand(len(ids), 2, generator=torch.Generator().manual_seed(5)) / 2
    fast, exact = leaf(values, device), leaf(values, torch.float64)
    interpolate(fast, triangles.to(device), ids.to(device), weights.to(device)).square().sum().backward()
    slow.interpolate(exact, triangles, ids, weights.double()).square().sum().backward()
    torch.testing.assert_close(fast.grad.cpu().double(), exact.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_one_gradient_alone(device: str, which: int) -> None:
    """Each gradient is the same whether or not the other is asked for."""
    values, triangles, ids, weights = sample(3, (50,), (20, 4))
    both = [leaf(values, device), leaf(weights, device)]
    interpolate(both[0], triangles.to(device), ids.to(device), both[1]).square().sum().backward()
    alone = [values.to(device), weights.to(device)]
    alone[which] = leaf(alone[which], device)
    interpolate(alone[0], triangles.to(device), ids.to(device), alone[1]).square().sum().backward()
    torch.testing.assert_close(alone[which].grad, both[which].grad)
    assert alone[1 - which].grad is None


def test_strided_inputs(device: str) -> None:
    values, triangles, ids, weights = sample(4, (50,), (20, 4))
    expected = slow.interpolate(values, triangles, ids, weights)
    strided = values.T.contiguous().T.to(device)
    result = interpolate(strided, triangles.T.contiguous().T.to(device), ids.to(device), weights.to(device))
    torch.testing.assert_close(result.cpu(), expected)


@pytest.mark.parametrize(("pixels", "corners"), [(0, 25), (10, 0)])
def test_nothing_to_do(device: str, pixels: int, corners: int) -> None:
    values = torch.randn(20, 3, device=device, requires_grad=True)
    triangles = torch.zeros((corners, 3), dtype=torch.int32, device=device)
    ids = torch.full((pixels,), -1, dtype=torch.int32, device=device)
    result = interpolate(values, triangles, ids, torch.zeros((pixels, 2), device=device))
    assert result.shape == (pixels, 3) and bool((result == 0).all())
    result.sum().backward()
    assert bool((values.grad == 0).all())
