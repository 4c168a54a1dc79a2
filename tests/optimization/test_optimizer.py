# SPDX-License-Identifier: GPL-3.0-or-later
"""Our Adam steps as PyTorch's does, without what PyTorch's brings along."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from backend.optimization.optimizer import EPSILON, Adam
from backend.optimization.rates import Decay, adam

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
def test_it_steps_as_pytorchs(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator).to(device) for shape in ((7, 3), (5,), (4, 2))]
    ours, peers = ([start.clone().requires_grad_() for start in starts] for _ in range(2))
    optimizer = adam([(ours[:2], 0.1), (ours[2:], 0.03)], torch.device(device))
    decay = Decay(optimizer)
    groups = [{"params": peers[:2], "lr": 0.1}, {"params": peers[2:], "lr": 0.03}]
    peer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=EPSILON)
    for step in range(12):
        decay.to(0.9**step)
        for group, rate in zip(peer.param_groups, (0.1, 0.03), strict=True):
            group["lr"] = rate * 0.9**step
        for a, b in zip(ours, peers, strict=True):
            gradient = torch.randn(a.shape, generator=generator).to(device)
            a.grad, b.grad = gradient.clone(), gradient
        if step % 3 == 0:
            ours[1].grad = peers[1].grad = None
        optimizer.step()
        peer.step()
    for a, b in zip(ours, peers, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_gradients_are_forgotten() -> None:
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.ones(3)
    Adam([([x], 0.1)]).zero_grad()
    assert x.grad is None


def test_no_stage_loads_pytorchs_compiler() -> None:
    """Which takes seconds. Asked of a process in which one step of each stage has run."""
    code = (
        "import sys\n"
        "from backend.self_test import run_self_test\n"
        "run_self_test('cpu', lambda text, share: None)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False"
