# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded steps do what ordinary ones do; what cannot be recorded runs all the same, with one warning."""

from __future__ import annotations

import pytest
import torch

from backend.optimization.rates import Decay, adam
from backend.optimization.step_graph import StepGraph


def learned(messages: list[str], device: str) -> list[float]:
    """Values of a parameter after each of ten steps towards a target that changes, at a rate that falls."""
    parameter = torch.zeros(3, device=device, requires_grad=True)
    target = torch.zeros(3, device=device)
    optimizer = adam([([parameter], 0.1)], torch.device(device))
    decay = Decay(optimizer)

    def learn() -> None:
        loss = (parameter - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    graph = StepGraph(learn, torch.device(device), recorded=True, warn=messages.append)
    seen = []
    for step in range(10):
        decay.to(0.9**step)
        target.fill_(step)
        if step == 7:
            graph.renew()
        graph.run()
        seen.append(float(parameter.detach().mean()))
    return seen


def test_steps_on_the_cpu_are_ordinary() -> None:
    calls: list[int] = []
    graph = StepGraph(lambda: calls.append(1), torch.device("cpu"), recorded=True, warn=lambda message: None)
    for _ in range(6):
        graph.run()
    assert len(calls) == 6


@pytest.mark.cuda
def test_a_recorded_step_learns_as_an_ordinary_one() -> None:
    messages: list[str] = []
    assert learned(messages, "cuda") == pytest.approx(learned(messages, "cpu"), rel=1e-4)
    assert not messages


@pytest.mark.cuda
def test_what_cannot_be_recorded_runs_with_one_warning() -> None:
    total = torch.zeros((), device="cuda")
    messages: list[str] = []

    def wait() -> None:
        total.add_(1)
        float(total)  # waits for the device, which no recording can hold

    graph = StepGraph(wait, torch.device("cuda"), recorded=True, warn=messages.append)
    for _ in range(8):
        graph.run()
    assert float(total) == 8 and len(messages) == 1
