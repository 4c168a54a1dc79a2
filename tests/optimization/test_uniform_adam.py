# SPDX-License-Identifier: GPL-3.0-or-later
"""Adam with one scale for all entries: directions stay, steps have the length that the rate says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from backend.optimization.uniform_adam import UniformAdam


def slow_steps(start: Tensor, gradients: list[Tensor], rates: list[float], betas: tuple[float, float]) -> Tensor:
    """The equations in float64."""
    x, first, second = start.double(), torch.zeros_like(start, dtype=torch.float64), 0.0
    for n, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        gradient = gradient.double()
        limit = 3 * (second / (1 - betas[1] ** (n - 1))) ** 0.5 if second else math.inf
        limit = min(limit, float(gradient.abs().max()), 40 * float(gradient.abs().mean()))
        first = betas[0] * first + (1 - betas[0]) * gradient.clamp(-limit, limit)
        second = betas[1] * second + (1 - betas[1]) * limit**2
        x = x - rate * first / (1 - betas[0] ** n) / ((second / (1 - betas[1] ** n)) ** 0.5 + 1e-20)
    return x


@pytest.mark.parametrize("shape", [(), (7,), (400, 3), (20_000, 3)])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_many_steps_are_those_of_the_equations(device: str, shape: tuple[int, ...], as_tensor: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(shape, generator=generator)
    # cubed, they have a tail as long as those of a mesh
    gradients = [torch.randn(shape, generator=generator) ** 3 * 10 ** (-n % 5) for n in range(20)]
    rates = [0.1 * 0.9**n for n in range(20)]
    x = start.clone().to(device).requires_grad_()
    optimizer = UniformAdam([x], rate=torch.tensor(0.0, device=device) if as_tensor else 0.0, betas=(0.8, 0.95))
    for gradient, rate in zip(gradients, rates, strict=True):
        group = optimizer.groups[0]
        if isinstance(group.rate, torch.Tensor):
            group.rate.fill_(rate)
        else:
            group.rate = rate
        x.grad = gradient.to(device)
        optimizer.step()
    expected = slow_steps(start, gradients, rates, (0.8, 0.95))
    torch.testing.assert_close(x.detach().cpu().double(), expected, atol=1e-4, rtol=1e-4)


def test_gradients_of_any_layout(device: str) -> None:
    gradient = torch.randn(3, 50, generator=torch.Generator().manual_seed(3)).to(device)
    x, y = (torch.ones(50, 3, device=device, requires_grad=True) for _ in range(2))
    x.grad, y.grad = gradient.T, gradient.T.contiguous()
    UniformAdam([x, y], rate=0.1).step()
    assert torch.equal(x, y)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_the_first_step_goes_along_the_gradient_as_far_as_the_rate_says(scale: float) -> None:
    gradient = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    start = torch.zeros(20, 3, requires_grad=True)
    start.grad = gradient * scale
    UniformAdam([start], rate=0.1).step()
    torch.testing.assert_close(start.detach(), -0.1 * gradient / gradient.abs().max(), atol=1e-6, rtol=1e-4)


def test_a_steady_gradient_keeps_the_length_of_the_step() -> None:
    gradient = torch.tensor([[3.0, -1.0, 0.0], [0.5, 0.0, 0.0]])
    x = torch.zeros(2, 3, requires_grad=True)
    optimizer = UniformAdam([x], rate=0.01)
    for count in range(1, 30):
        x.grad = gradient.clone()
        optimizer.step()
        torch.testing.assert_close(x.detach(), -0.01 * count * gradient / 3, atol=1e-5, rtol=1e-3)


def test_one_wild_gradient_neither_throws_its_entry_nor_holds_the_others_back() -> None:
    steady = torch.full((100, 3), 1e-3)
    steady[0] = 2e-3
    wild = steady.clone()
    wild[7, 1] = 5.0
    x = torch.zeros(100, 3, requires_grad=True)
    optimizer = UniformAdam([x], rate=0.01)
    for count in range(60):
        x.grad = (wild if count == 30 else steady).clone()
        was = x.detach().clone()
        optimizer.step()
        moved = (was - x.detach()) / 0.01
        assert float(moved[50, 0]) == pytest.approx(0.5, rel=0.2)  # without the cut 0.02 from then on
        assert float(moved.abs().max()) < 2
    # What goes on to be large is believed.
    for _ in range(200):
        x.grad = wild.clone()
        was = x.detach().clone()
        optimizer.step()
    assert float((was - x.detach())[7, 1] / 0.01) == pytest.approx(1.0, rel=0.3)


def test_each_tensor_has_its_own_scale_and_ordinary_adam_would_fail_this() -> None:
    one, two, idle = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True), torch.ones(2)
    one.grad, two.grad = torch.tensor([1.0, 0.1]), torch.tensor([1000.0, 0.0])
    UniformAdam([one, two, idle], rate=1.0).step()
    torch.testing.assert_close(one.detach(), torch.tensor([-1.0, -0.1]))  # Adam: −1, −1
    torch.testing.assert_close(two.detach(), torch.tensor([-1.0, 0.0]))
    torch.testing.assert_close(idle, torch.ones(2))


def test_no_gradient_at_all_moves_nothing() -> None:
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.zeros(3)
    UniformAdam([x], rate=1.0).step()
    assert torch.equal(x.detach(), torch.ones(3))


def test_it_finds_a_minimum_and_obeys_a_changed_rate() -> None:
    target = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    x = torch.zeros(50, 3, requires_grad=True)
    optimizer = UniformAdam([x], rate=0.1)
    for step in range(700):
        optimizer.groups[0].rate = 0.1 * 0.99**step
        optimizer.zero_grad()
        (x - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(x.detach(), target, atol=0.02, rtol=0)
    before = x.detach().clone()
    optimizer.groups[0].rate = 0.0
    optimizer.step()
    assert torch.equal(x.detach(), before)
